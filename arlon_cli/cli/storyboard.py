"""`arlon storyboard`: progressive prompts from a YAML file."""

from pathlib import Path
from typing import Annotated

import typer

from arlon_cli.cli import options


def storyboard(
    file: Annotated[Path, typer.Argument(help="YAML with `shots`: each a prompt with frames or seconds.")],
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
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
    """Render shots one after the other, each growing out of the one before."""
    from arlon_cli.cli.render import RenderOptions, render
    from arlon_cli.pipeline.shots import read_storyboard
    from arlon_cli.storage.weights import find_weights, read_config

    options.check_sampling(seed, steps, guidance)
    folder = find_weights(model)
    board = read_storyboard(file, read_config(folder).fps)
    chosen_seed = seed if seed is not None else board.seed or 0
    options.check_sampling(chosen_seed, steps, guidance)
    path = options.output_path(output, options.default_name(board.title or file.stem, chosen_seed), overwrite)
    chosen = RenderOptions(
        seed=chosen_seed,
        steps=steps,
        guidance=guidance,
        use_ar=not no_ar,
        device=device,
        dtype=dtype,
        metadata=not no_metadata,
        as_json=as_json,
        verbosity=verbose - quiet,
    )
    render(folder, board.shots, path, chosen)
