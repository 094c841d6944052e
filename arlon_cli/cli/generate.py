"""`arlon generate`: text to video."""

from typing import Annotated

import typer

from arlon_cli.cli import options
from arlon_cli.errors import InputError

_DEFAULT_FRAMES = 240


def generate(
    prompt: Annotated[str, typer.Argument(help="What the video shows.")],
    frames: Annotated[
        int | None, typer.Option("--frames", help="Number of frames.  [default: those of --codes, else 240]")
    ] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="Length, instead of --frames.")] = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    codes: options.Codes = None,
    image: options.Image = None,
    no_ar: options.NoAR = False,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    model: options.Model = "diorama",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    no_metadata: options.NoMetadata = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Render a video of any length from a prompt."""
    from arlon_cli.cli.render import RenderOptions, render
    from arlon_cli.pipeline.shots import Shot, check_shots, frames_of
    from arlon_cli.storage.codes import read_codes
    from arlon_cli.storage.weights import find_weights, read_config

    options.check_sampling(seed, steps, guidance)
    if frames is not None and seconds is not None:
        raise InputError("Give either --frames or --seconds.")
    if codes is not None and no_ar:
        raise InputError("--codes gives the codes that --no-ar leaves out; give one of them.")
    if codes is not None and frames is None and seconds is None:
        frames = read_codes(codes)[1].num_frames
    shots = check_shots([Shot(prompt, _DEFAULT_FRAMES if frames is None else frames)])
    folder = find_weights(model)
    if seconds is not None:
        shots = check_shots([Shot(shots[0].prompt, frames_of(seconds, read_config(folder).fps))])
    path = options.output_path(output, options.default_name(prompt, seed or 0), overwrite)
    chosen = RenderOptions(
        seed=seed or 0,
        steps=steps,
        guidance=guidance,
        use_ar=not no_ar,
        codes=codes,
        image=image,
        device=device,
        dtype=dtype,
        metadata=not no_metadata,
        as_json=as_json,
        verbosity=verbose - quiet,
    )
    render(folder, shots, path, chosen)
