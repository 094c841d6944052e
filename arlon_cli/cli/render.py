"""From shots to an mp4, for the commands that do that."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arlon_cli.cli.console import Console, Interrupted, counted, print_line, print_result
from arlon_cli.cli.engine import open_pipeline, read_reference
from arlon_cli.cli.options import file_name
from arlon_cli.errors import CheckpointError, InputError
from arlon_cli.pipeline.shots import Shot, scenes_of

if TYPE_CHECKING:
    from arlon_cli.config import ModelConfig
    from arlon_cli.pipeline.pipeline import Pipeline
    from arlon_cli.pipeline.reference import Reference
    from arlon_cli.pipeline.segments import Settings
    from arlon_cli.storage.metadata import VideoMetadata


@dataclass(frozen=True)
class RenderOptions:
    """How to render a video; None stands for the model's default."""

    seed: int
    steps: int | None
    guidance: float | None
    reuse: float | None
    use_ar: bool
    redo: tuple[int, ...]
    preview: bool
    sheet: bool
    metadata: bool
    overwrite: bool
    codes: Path | None = None
    image: Path | None = None


@dataclass(frozen=True)
class RunOptions:
    """At which size and rate, and where, to render, and what to show of it."""

    config: "ModelConfig"
    device: str
    dtype: str
    as_json: bool
    verbosity: int
    dry_run: bool
    offload: bool
    compile_parts: bool


def render(checkpoint_folder: Path, shots: Sequence[Shot], path: Path, options: RenderOptions, run: RunOptions) -> None:
    """Render shots to `path` and print the result. Raises Interrupted after Ctrl-C; what is rendered stays stored."""
    try:
        with Console(run.verbosity) as console:
            pipeline = open_pipeline(
                checkpoint_folder,
                run.device,
                run.dtype,
                console,
                config=run.config,
                offload=run.offload,
                compile_parts=run.compile_parts,
            )
            if run.dry_run:
                result = plan_video(pipeline, shots, options)
            else:
                result = render_video(pipeline, work_of(pipeline, shots, options), path, options, console)
    except KeyboardInterrupt as error:
        raise Interrupted(
            "Interrupted. The same command goes on where it stopped: finished segments are kept."
        ) from error
    if run.verbosity >= 0 and run.dry_run:
        for line in plan_lines(result):
            print_line(line)
        if path.exists() and not options.overwrite:
            print_line(f"{path} exists already, and would stay: only --overwrite replaces it")
    print_result(path, result, run.as_json)


@dataclass(frozen=True)
class Work:
    """A video to make: its shots, how they are rendered, what they start from, and what it is to say about that."""

    shots: Sequence[Shot]
    settings: "Settings"
    reference: "Reference"
    made: "VideoMetadata"


def work_of(pipeline: "Pipeline", shots: Sequence[Shot], options: RenderOptions) -> Work:
    """The video that the options ask for, with the model's defaults filled in. Raises InputError."""
    from arlon_cli.pipeline.segments import Settings

    sampling = pipeline.config.sampling
    settings = Settings(
        seed=options.seed,
        num_steps=sampling.steps(options.use_ar) if options.steps is None else options.steps,
        guidance_scale=sampling.guidance_scale if options.guidance is None else options.guidance,
        use_ar=options.use_ar,
        redo=options.redo,
        reuse=options.reuse or 0.0,
    )
    num_frames = sum(shot.num_frames for shot in shots)
    reference = read_reference(pipeline, options.codes, options.image, num_frames, settings.use_ar)
    made = replace(
        pipeline.metadata(shots, settings, reference),
        codes=file_name(options.codes) if options.codes else "",
        image=file_name(options.image) if options.image else "",
    )
    return Work(shots, settings, reference, made)


def render_video(
    pipeline: "Pipeline",
    work: Work,
    path: Path,
    options: RenderOptions,
    console: Console,
    *,
    again: bool = False,
    seconds: float = 0.0,
) -> dict[str, Any]:
    """Write a video, and what else was asked for beside it; returns what there is to say about it.

    `again` where the video is there already, made the same, and something else is to come beside it. `seconds` went
    into it before.
    """
    from arlon_cli.pipeline.timings import remember_speed
    from arlon_cli.storage.sheet import ContactSheet
    from arlon_cli.storage.video import VideoWriter

    start = time.monotonic() - seconds
    config = pipeline.config
    sheet_path = _sheet_path(path, options) if options.sheet else None
    preview = _write_preview(pipeline, work, path, options) if options.preview else None
    comment = work.made.to_json() if options.metadata else ""
    sheet = ContactSheet(work.made.num_frames)
    started, before = time.monotonic(), console.rendered
    overwrite = options.overwrite or again
    with VideoWriter(
        path, width=config.width, height=config.height, fps=config.fps, comment=comment, overwrite=overwrite
    ) as writer:
        for frames in pipeline.frames(work.shots, work.settings, work.reference):
            writer.write(frames)
            sheet.add(frames)
    if rendered := console.rendered - before:
        remember_speed(pipeline, work.settings, (time.monotonic() - started) / rendered)
    pipeline.store.remember_result(path)
    if sheet_path:
        sheet.write(sheet_path)
    seconds = round(time.monotonic() - start, 2)
    console.done(f"{path}: {counted(writer.num_frames, 'frame')} in {seconds:.1f} s")
    files = {"preview": preview and str(preview), "sheet": sheet_path and str(sheet_path)}
    return (
        {"num_frames": writer.num_frames}
        | files
        | _facts(pipeline, work.made)
        | console.counts()
        | {"seconds": seconds}
    )


def sheet_of(path: Path) -> Path:
    """Where the contact sheet of a video goes."""
    return path.with_suffix(".png")


def preview_of(path: Path) -> Path:
    """Where the preview of a video goes."""
    return path.with_name(f"{path.stem}-preview.mp4")


def _sheet_path(path: Path, options: RenderOptions) -> Path:
    """Where the contact sheet of the video `path` goes. Raises InputError where there is a file already."""
    sheet = sheet_of(path)
    if options.image is not None and sheet.exists() and sheet.samefile(options.image):
        raise InputError(
            f"{sheet} is the picture that the video starts from; it is never overwritten: give another -o."
        )
    if sheet.exists() and not options.overwrite:
        raise InputError(f"{sheet} exists already; give --overwrite to replace it, or another -o.")
    return sheet


def _write_preview(pipeline: "Pipeline", work: Work, path: Path, options: RenderOptions) -> Path:
    """Write the preview of the video `path` beside it, unless it is there from a run that was stopped."""
    from arlon_cli.storage.video import VideoWriter

    about = replace(work.made, preview=True)
    preview = preview_of(path)
    if preview.exists() and not options.overwrite:
        if not is_as_told(preview, about, options.metadata):
            raise InputError(f"{preview} exists already; give --overwrite to replace it, or another -o.")
        return preview
    config = pipeline.config
    with VideoWriter(
        preview,
        width=config.width,
        height=config.height,
        fps=config.fps,
        comment=about.to_json() if options.metadata else "",
        overwrite=options.overwrite,
    ) as writer:
        for frames in pipeline.preview(work.shots, work.settings, work.reference):
            writer.write(frames)
    return preview


def is_as_told(path: Path, made: "VideoMetadata", metadata: bool) -> bool:
    """Whether the file that is there is the video that `made` tells of, as far as it tells itself."""
    from arlon_cli.storage.video import probe, read_metadata

    found = read_metadata(path)
    if metadata:
        return found is not None and found == replace(made, version=found.version)
    try:
        info = probe(path)
    except InputError:
        return False
    same = (info.width, info.height, info.fps, info.num_frames)
    return found is None and same == (made.width, made.height, made.fps, made.num_frames)


def plan_video(pipeline: "Pipeline", shots: Sequence[Shot], options: RenderOptions) -> dict[str, Any]:
    """What `render_video` would do, with an estimate of the time where such segments have been timed here."""
    from arlon_cli.pipeline.timings import remembered_speed

    config, chunk = pipeline.config, pipeline.config.video_vae.chunk
    lacks = None
    try:
        pipeline.check(options.use_ar)
    except CheckpointError as error:
        lacks = str(error)
    work = work_of(pipeline, shots, options)
    segments: list[dict[str, Any]] = []
    first_frame = 0
    plan = pipeline.plan(shots, work.settings, work.reference)
    for scene, jobs in zip(scenes_of(shots), plan, strict=True):
        for job in jobs:
            segments.append(
                {
                    "first_frame": first_frame + chunk.frames(job.segment.start + job.segment.overlap),
                    "prompt": job.prompt,
                    "steps": job.num_steps,
                    "guidance_scale": job.guidance_scale,
                    "codes_stored": pipeline.store.has("codes", job.codes_key) if job.spans else None,
                    "stored": pipeline.store.has("latents", job.latents_key),
                }
            )
        first_frame += sum(shot.num_frames for shot in scene)
    per_segment = remembered_speed(pipeline, work.settings)
    missing = sum(not segment["stored"] for segment in segments)
    estimate = None if per_segment is None else round(per_segment * missing, 1)
    num_frames = sum(shot.num_frames for shot in shots)
    facts = {
        "dry_run": True,
        "num_frames": num_frames,
        "lacks": lacks,
        "estimated_seconds": estimate,
        "segment_frames": chunk.frames(config.segments.num_latents),
        "segment_latents": config.segments.num_latents,
        "overlap_frames": chunk.frames(config.segments.overlap),
        "overlap_latents": config.segments.overlap,
        "segments": segments,
    }
    return facts | _facts(pipeline, work.made)


def plan_lines(plan: dict[str, Any]) -> list[str]:
    """A plan as lines for people."""
    segments = plan["segments"]
    stored = sum(segment["stored"] for segment in segments)
    estimate = plan["estimated_seconds"]
    if stored == len(segments):
        time_needed = "nothing to render"
    elif estimate is None:
        time_needed = "no such run has been timed here yet"
    else:
        time_needed = f"about {round(estimate) // 60}:{round(estimate) % 60:02d} to render"
    frames = counted(plan["num_frames"], "frame")
    lines = [f"{frames}, {counted(len(segments), 'segment')}, {stored} in the store; {time_needed}"]
    lines += [plan["lacks"]] if plan["lacks"] else []
    lines.append(
        f"{_sum_of_segments(plan)}a segment has {plan['segment_frames']} frames, which are {plan['segment_latents']} "
        f"latents, and shares {plan['overlap_frames']} frames, {plan['overlap_latents']} latents, with the one before"
    )
    for number, segment in enumerate(segments, start=1):
        codes = {None: "no codes to draft", True: "codes in the store", False: "codes to draft"}[
            segment["codes_stored"]
        ]
        state = "in the store" if segment["stored"] else f"{codes}, {counted(segment['steps'], 'step')}"
        lines.append(f"segment {number}, from frame {segment['first_frame']}: {state}: {segment['prompt']}")
    return lines


def _sum_of_segments(plan: dict[str, Any]) -> str:
    """How the frames of a video come from its segments, as `731 = 68 + 13 x 51: `; "" where it has cuts or one."""
    first, new = plan["segment_frames"], plan["segment_frames"] - plan["overlap_frames"]
    whole, rest = divmod(plan["num_frames"] - first, new)
    if whole + bool(rest) + 1 != len(plan["segments"]) or whole < 1:
        return ""
    return f"{plan['num_frames']} = {first} + {whole} x {new}{f' + {rest}' if rest else ''}: "


def _facts(pipeline: "Pipeline", made: "VideoMetadata") -> dict[str, Any]:
    facts = asdict(made)
    del facts["preview"]
    return facts | {"device": str(pipeline.device)}
