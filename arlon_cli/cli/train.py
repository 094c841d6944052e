"""`arlon train`: make weights."""

import math
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from arlon_cli.cli import options
from arlon_cli.cli.console import Interrupted, print_line, print_result
from arlon_cli.errors import InputError

app = typer.Typer(help="Make weights.", no_args_is_help=True)


@app.callback()
def train() -> None:
    """Make weights."""


@app.command()
def diorama(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run; goes on where one stopped.")],
    minutes: Annotated[float, typer.Option("--minutes", help="Time for all parts together.")] = 120.0,
    seed: options.Seed = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Train every part of the embedded model on the dioramas, within a budget of time; prints the checkpoint's path."""
    options.check_sampling(seed, None, None)
    if not (math.isfinite(minutes) and minutes > 0):
        raise InputError(f"--minutes is {minutes}; it is a positive number.")
    from arlon_cli.models.device import resolve_device, resolve_dtype
    from arlon_cli.training import diorama as recipe

    place = resolve_device(device)
    precision = resolve_dtype(dtype, place)
    asked = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print_line("Stopping after this step; once more stops at once.")

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        checkpoint = recipe.train_diorama(
            output,
            minutes=minutes,
            device=place,
            precision=precision,
            seed=seed or 0,
            on_event=(lambda message: None) if quiet else print_line,
            stop=lambda: asked,
        )
    except (recipe.Interrupted, KeyboardInterrupt) as error:
        raise Interrupted("Interrupted. The same command goes on where it stopped.") from error
    finally:
        signal.signal(signal.SIGINT, before)
    print_result(checkpoint, {"minutes": minutes, "seed": seed or 0}, as_json)
