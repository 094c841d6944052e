"""`arlon storyboard`: progressive prompts from a YAML file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from arlon_cli.cli import options
from arlon_cli.errors import InputError


def storyboard(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="YAML with `shots`: each a prompt with frames or seconds. - is stdin.")],
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    reuse: options.Reuse = None,
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
    """Render shots one after the other, each growing out of the one before.

    \b
    title: Harbour
    defaults: {seconds: 6, steps: 4}
    shots:
      - prompt: A red sailboat on a calm sea at dawn.
      - prompt: A red sailboat on a rough sea in a storm.
        frames: 200
      - prompt: A city skyline at night.
        cut: true    # begins anew, instead of growing out of the shot before
        seed: 7      # shots may have seed, steps and guidance of their own

    --seed, --steps and --guidance stand in for the file's defaults; a shot's own values stay.
    """
    from arlon_cli.cli.console import print_result
    from arlon_cli.cli.engine import wanted_config
    from arlon_cli.cli.render import RenderOptions, RunOptions, render
    from arlon_cli.pipeline.storyboard import parse_storyboard, read_storyboard
    from arlon_cli.storage.weights import find_weights

    options.check_sampling(seed, steps, guidance, reuse)
    options.check_modes(no_ar, preview)
    folder = find_weights(model)
    config = wanted_config(folder, size, fps)
    if str(file) == "-":
        if sys.stdin is None:
            raise InputError("There is no standard input to read a storyboard from.")
        board = parse_storyboard(sys.stdin.buffer.read(), "stdin", config.fps)
    else:
        board = read_storyboard(file, config.fps)
    seed = seed if seed is not None else board.seed or 0
    steps = options.flag_or_file(context, "steps", board.num_steps)
    guidance = options.flag_or_file(context, "guidance", board.guidance_scale)
    name = options.default_name(board.title or file.stem, seed)
    path = options.output_path(output, name, overwrite, skip_existing, dry_run)
    if skip_existing and path.exists():
        print_result(path, {"skipped": True}, as_json)
        return
    chosen = RenderOptions(
        seed=seed,
        steps=steps,
        guidance=guidance,
        reuse=reuse,
        use_ar=not no_ar,
        redo=tuple(redo or ()),
        preview=preview,
        sheet=sheet,
        metadata=not no_metadata,
        overwrite=overwrite,
    )
    run = RunOptions(config, device, dtype, as_json, verbose - quiet, dry_run, offload, compile_parts)
    render(folder, board.shots, path, chosen, run)
