"""From shots to an mp4, for the commands that do that."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arlon_cli.cli.console import Console, Interrupted, print_result
from arlon_cli.pipeline.shots import Shot


@dataclass(frozen=True)
class RenderOptions:
    """What the command line says about a run; None stands for the model's default."""

    seed: int
    steps: int | None
    guidance: float | None
    use_ar: bool
    device: str
    dtype: str
    metadata: bool
    as_json: bool
    verbosity: int
    codes: Path | None = None
    image: Path | None = None


def render(checkpoint_folder: Path, shots: Sequence[Shot], path: Path, options: RenderOptions) -> None:
    """Render shots to `path` and print the result. Raises Interrupted after Ctrl-C; what is rendered stays stored."""
    start = time.monotonic()
    try:
        with Console(options.verbosity) as console:
            result = _render(checkpoint_folder, shots, path, options, console)
    except KeyboardInterrupt as error:
        raise Interrupted(
            "Interrupted. The same command goes on where it stopped: finished segments are kept."
        ) from error
    seconds = round(time.monotonic() - start, 2)
    print_result(path, result | {"resumed_segments": console.resumed, "seconds": seconds}, options.as_json)


def _render(
    checkpoint_folder: Path, shots: Sequence[Shot], path: Path, options: RenderOptions, console: Console
) -> dict[str, object]:
    from arlon_cli.cli.engine import read_reference
    from arlon_cli.models.device import resolve_device, resolve_dtype
    from arlon_cli.pipeline.pipeline import Pipeline
    from arlon_cli.pipeline.segments import Settings
    from arlon_cli.storage.checkpoint import Checkpoint
    from arlon_cli.storage.store import Store
    from arlon_cli.storage.video import VideoWriter

    device = resolve_device(options.device)
    pipeline = Pipeline(
        Checkpoint(checkpoint_folder),
        device=device,
        dtype=resolve_dtype(options.dtype, device),
        store=Store.from_environment(),
        on_progress=console.progress,
        on_warning=console.warn,
    )
    config = pipeline.config
    settings = Settings(
        seed=options.seed,
        num_steps=config.sampling.num_steps if options.steps is None else options.steps,
        guidance_scale=config.sampling.guidance_scale if options.guidance is None else options.guidance,
        use_ar=options.use_ar,
    )
    num_frames = sum(shot.num_frames for shot in shots)
    reference = read_reference(pipeline, options.codes, options.image, num_frames, settings.use_ar)
    made = dataclasses.replace(
        pipeline.metadata(shots, settings, reference),
        codes=options.codes.name if options.codes else "",
        image=options.image.name if options.image else "",
    )
    comment = made.to_json() if options.metadata else ""
    with VideoWriter(path, width=config.width, height=config.height, fps=config.fps, comment=comment) as writer:
        for frames in pipeline.frames(shots, settings, reference):
            writer.write(frames)
    pipeline.store.remember_result(path)
    return {
        "num_frames": writer.num_frames,
        "fps": config.fps,
        "width": config.width,
        "height": config.height,
        "seed": settings.seed,
        "model": config.name,
    }
