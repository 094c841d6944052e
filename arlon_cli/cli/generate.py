"""`arlon generate`: text to video."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from arlon_cli.cli import options
from arlon_cli.errors import InputError
from arlon_cli.pipeline.shots import Shot, check_shots, frames_of

_DEFAULT_FRAMES = 240

Frames = Annotated[
    int | None, typer.Option("--frames", help="Number of frames.  [default: those of --codes, else 240]")
]
Seconds = Annotated[float | None, typer.Option("--seconds", help="Length in seconds, instead of --frames.")]


def generate(
    prompt: Annotated[str, typer.Argument(help="What the video shows.")],
    frames: Frames = None,
    seconds: Seconds = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    reuse: options.Reuse = None,
    codes: options.Codes = None,
    image: options.Image = None,
    no_ar: options.NoAR = False,
    redo: options.Redo = None,
    size: options.Size = None,
    fps: options.Fps = None,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    skip_existing: options.SkipExisting = False,
    preview: options.Preview = False,
    sheet: options.Sheet = False,
    dry_run: options.DryRun = False,
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
    """Render a video of any length from a prompt."""
    from arlon_cli.cli.console import print_result
    from arlon_cli.cli.engine import wanted_config
    from arlon_cli.cli.render import RenderOptions, RunOptions, render
    from arlon_cli.storage.weights import find_weights

    options.check_sampling(seed, steps, guidance, reuse)
    options.check_modes(no_ar, preview, codes)
    folder = find_weights(model)
    config = wanted_config(folder, size, fps)
    shots = prompt_shots(prompt, frames, seconds, config.fps, codes)
    name = options.default_name(shots[0].prompt, seed or 0)
    path = options.output_path(output, name, overwrite, skip_existing, dry_run)
    if skip_existing and path.exists():
        print_result(path, {"skipped": True}, as_json)
        return
    chosen = RenderOptions(
        seed=seed or 0,
        steps=steps,
        guidance=guidance,
        reuse=reuse,
        use_ar=not no_ar,
        redo=tuple(redo or ()),
        preview=preview,
        sheet=sheet,
        metadata=not no_metadata,
        overwrite=overwrite,
        codes=codes,
        image=image,
    )
    run = RunOptions(config, device, dtype, as_json, verbose - quiet, dry_run, offload, compile_parts)
    render(folder, shots, path, chosen, run)


def prompt_shots(
    prompt: str, frames: int | None, seconds: float | None, fps: int, codes: Path | None = None
) -> Sequence[Shot]:
    """The one shot of a prompt, with its length: else that of the clip whose codes are given. Raises InputError."""
    if frames is not None and seconds is not None:
        raise InputError("Give either --frames or --seconds.")
    if seconds is not None:
        frames = frames_of(seconds, fps)
    if frames is None and codes is not None:
        from arlon_cli.storage.codes import read_codes

        frames = read_codes(codes)[1].num_frames
    return check_shots([Shot(prompt, _DEFAULT_FRAMES if frames is None else frames)])
