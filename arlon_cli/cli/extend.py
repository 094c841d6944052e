"""`arlon extend`: more frames after any video."""

import math
import re
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arlon_cli.cli import options
from arlon_cli.cli.console import Console, Interrupted, print_result
from arlon_cli.errors import InputError

if TYPE_CHECKING:
    from arlon_cli.config import ModelConfig
    from arlon_cli.pipeline.extension import Extension
    from arlon_cli.pipeline.pipeline import Pipeline
    from arlon_cli.pipeline.shots import Shot
    from arlon_cli.storage.metadata import VideoMetadata
    from arlon_cli.storage.video import VideoInfo

_DEFAULT_SECONDS = 5.0


def extend(
    video: Annotated[
        str | None, typer.Argument(help="Any video; with --last, the prompt stands here.", show_default=False)
    ] = None,
    prompt: Annotated[
        str | None, typer.Argument(help="What comes next.  [default: the video's last prompt]", show_default=False)
    ] = None,
    frames: Annotated[int | None, typer.Option("--frames", help="Number of new frames.  [default: 5 seconds]")] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="New seconds, instead of --frames.")] = None,
    last: Annotated[bool, typer.Option("--last", help="Extend the newest video that was rendered.")] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Same seed, same video.  [default: the video's]")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Denoising steps.  [default: the video's]")] = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", help="Classifier-free guidance; 1 is none.  [default: the video's]")
    ] = None,
    reuse: Annotated[
        float | None,
        typer.Option("--reuse", metavar="SHARE", help="As of `generate`; 0 is never.  [default: the video's]"),
    ] = None,
    no_ar: options.NoAR = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            envvar="ARLON_OUTPUT",
            help="The .mp4 to write, or a folder.  [default: here, VIDEO-extended.mp4]",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    model: options.Model = "diorama",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    offload: options.Offload = False,
    compile_parts: options.Compile = False,
    no_metadata: options.NoMetadata = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Add frames to a video: its own frames come first, copied as they are where its format allows it.

    A video of this tool goes on from its stored latents, any other from its encoded end. New frames have the size and
    rate of the video; where its shape is not the model's, the result is the video's centre in that shape. Sound is
    left out.
    """
    start = time.monotonic()
    options.check_sampling(seed, steps, guidance, reuse)
    if frames is not None and seconds is not None:
        raise InputError("Give either --frames or --seconds.")
    if last:
        if prompt is not None or (video and options.is_file(video)):
            raise InputError("Give either VIDEO or --last.")
        from arlon_cli.storage.store import Store

        prompt, source = video, Store.from_environment().last_result()
    elif not video:
        raise InputError("Name a video, or give --last.")
    else:
        source = Path(video)
    path = options.output_path(output, extended_name(source), overwrite)
    if path.exists() and source.exists() and path.samefile(source):
        raise InputError(f"{path} is the video to extend; it is never overwritten: give another -o.")
    try:
        with Console(verbose - quiet) as console:
            wish = Wish(
                video=source,
                prompt=prompt,
                frames=frames,
                seconds=seconds,
                seed=seed,
                steps=steps,
                guidance=guidance,
                reuse=reuse,
                no_ar=no_ar,
                overwrite=overwrite,
                model=model,
                device=device,
                dtype=dtype,
                offload=offload,
                compile_parts=compile_parts,
            )
            result = _extend(wish, path, console, metadata=not no_metadata)
    except KeyboardInterrupt as error:
        raise Interrupted(
            "Interrupted. The same command goes on where it stopped: finished segments are kept."
        ) from error
    print_result(path, result | {"seconds": round(time.monotonic() - start, 2)}, as_json)


@dataclass(frozen=True)
class Wish:
    """What the command line says; None stands for a default."""

    video: Path
    prompt: str | None
    frames: int | None
    seconds: float | None
    seed: int | None
    steps: int | None
    guidance: float | None
    reuse: float | None
    no_ar: bool
    overwrite: bool
    model: str
    device: str
    dtype: str
    offload: bool
    compile_parts: bool


def _extend(wish: Wish, path: Path, console: Console, *, metadata: bool) -> dict[str, object]:
    from arlon_cli.cli.engine import open_pipeline
    from arlon_cli.pipeline.extension import fitted
    from arlon_cli.pipeline.shots import Shot, check_shots, frames_of
    from arlon_cli.pipeline.sizes import at_fps, sized
    from arlon_cli.storage.append import append_by_copy, append_encoded, can_copy
    from arlon_cli.storage.metadata import VideoMetadata
    from arlon_cli.storage.video import probe
    from arlon_cli.storage.weights import find_weights, read_config

    folder = find_weights(wish.model)
    config = read_config(folder)
    video, info = wish.video, probe(wish.video)
    made = VideoMetadata.from_json(info.comment)
    if made is not None:
        _check_record(video, made)
    if made is not None and made.model == config.name:
        config = at_fps(config, made.fps)
        if config.published is not None:
            config = sized(config, (made.width, made.height))
    prompt = wish.prompt
    if prompt is None and made is not None:
        prompt = made.shots[-1].prompt
    if prompt is None:
        raise InputError(f"{video} does not say what it shows; name a prompt: arlon extend VIDEO PROMPT.")
    fps = info.fps or config.fps
    seconds = _DEFAULT_SECONDS if wish.seconds is None else wish.seconds
    num_new = frames_of(seconds, fps) if wish.frames is None else wish.frames
    [shot] = check_shots([Shot(prompt, num_new)])
    width, height = result_size(info, config)

    dtype = made.dtype if made is not None and wish.dtype == "auto" else wish.dtype
    pipeline = open_pipeline(
        folder, wish.device, dtype, console, config=config, offload=wish.offload, compile_parts=wish.compile_parts
    )
    num_rendered = math.ceil(num_new * config.fps / fps)
    extension = _choose(wish, info, made, pipeline, console, Shot(shot.prompt, num_rendered))
    if (width, height) != (info.width, info.height):
        console.warn(
            f"{video} is {info.width}x{info.height} and {config.name} renders {config.width}x{config.height}: "
            f"the result is its centre, {width}x{height}."
        )
    if fps != config.fps:
        console.warn(f"{video} has {fps:g} frames/s and {config.name} renders {config.fps}: new frames are resampled.")
    comment = ""
    if metadata:
        comment = extension.metadata(
            pipeline, source=options.file_name(video), num_frames=info.num_frames + num_new
        ).to_json()
    frames = fitted(
        extension.frames(pipeline), width=width, height=height, source_fps=config.fps, fps=fps, num_frames=num_new
    )
    copied = (width, height) == (info.width, info.height) and can_copy(video, info, num_new)
    if copied:
        total = append_by_copy(video, frames, path, info, comment, overwrite=wish.overwrite)
    else:
        console.warn(f"The frames of {video} are encoded again, since new ones cannot follow them as they are.")
        total = append_encoded(
            video, frames, path, width=width, height=height, fps=fps, comment=comment, overwrite=wish.overwrite
        )
    pipeline.store.remember_result(path)
    return {
        "num_frames": total,
        "new_frames": num_new,
        "fps": fps,
        "width": width,
        "height": height,
        "from": extension.origin,
        "copied": copied,
        "seed": extension.seed,
        "model": config.name,
        "resumed_segments": console.resumed,
    }


def _choose(
    wish: Wish,
    info: "VideoInfo",
    made: "VideoMetadata | None",
    pipeline: "Pipeline",
    console: Console,
    shot: "Shot",
) -> "Extension":
    """The extension by `shot`: as the video's own plan goes on, else from stored latents, else from its encoded end."""
    from arlon_cli.pipeline import extension as ways
    from arlon_cli.pipeline.segments import Settings
    from arlon_cli.storage.video import read_frames

    config = pipeline.config
    before = Settings(0, config.sampling.num_steps, config.sampling.guidance_scale, use_ar=True)
    if made is not None and made.model_digest == pipeline.checkpoint.digest:
        before = ways.last_settings(made)
    settings = Settings(
        seed=before.seed if wish.seed is None else wish.seed,
        num_steps=before.num_steps if wish.steps is None else wish.steps,
        guidance_scale=before.guidance_scale if wish.guidance is None else wish.guidance,
        use_ar=before.use_ar and not wish.no_ar,
        reuse=before.reuse if wish.reuse is None else wish.reuse,
    )
    lost, skipped = None, 0
    if made is not None and not made.preview:
        lost = ways.why_encoded(made, info.num_frames, pipeline)
        if lost is None and settings == before and not (made.codes or made.image or made.extends):
            return ways.extend_plan(made, shot.prompt, shot.num_frames)
        if lost is None:
            return ways.extend_latents(made, shot.prompt, shot.num_frames, settings, pipeline)
        skipped = ways.frames_before_last_scene(made, info.num_frames)
    if info.num_frames < 2:
        raise InputError(f"{wish.video} has one frame, which is no video; `generate --image` starts from a picture.")
    if lost is not None:
        console.warn(f"{wish.video} {lost}: its end is encoded instead.")
    frames = read_frames(wish.video, width=config.width, height=config.height, fps=config.fps)
    of_scene = islice(frames, round(skipped * config.fps / (info.fps or config.fps)), None)
    return ways.extend_pixels(of_scene, shot.prompt, shot.num_frames, settings, pipeline)


def _check_record(video: Path, made: "VideoMetadata") -> None:
    """Raises InputError where a video that anybody may have made says what this tool would not do."""
    from arlon_cli.pipeline.shots import MAX_FRAMES

    try:
        options.check_sampling(made.seed, made.num_steps, made.guidance_scale, made.reuse, dashes="")
        for shot in made.shots:
            options.check_sampling(shot.seed, shot.num_steps, shot.guidance_scale, dashes="")
            if not 1 <= shot.num_frames <= MAX_FRAMES:
                raise InputError(f"a shot has {shot.num_frames} frames.")
    except InputError as error:
        raise InputError(f"What {video} says of how it was made is damaged: {error}") from error


def result_size(info: "VideoInfo", config: "ModelConfig") -> tuple[int, int]:
    """Width and height of the largest even part of a video that has the shape of the model's."""
    scale = min(info.width / config.width, info.height / config.height)
    width, height = (max(2, int(scale * size) // 2 * 2) for size in (config.width, config.height))
    return width, height


def extended_name(video: Path) -> str:
    """clip.mp4 becomes clip-extended.mp4, then clip-extended-2.mp4."""
    match = re.fullmatch(r"(.*)-extended(?:-(\d{1,6}))?", video.stem)
    if match is None:
        return f"{video.stem}-extended.mp4"
    return f"{match[1]}-extended-{int(match[2] or 1) + 1}.mp4"
