"""`arlon bench`: how fast a model is on this machine."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arlon_cli.cli import options
from arlon_cli.cli.console import print_table, printer
from arlon_cli.errors import InputError

if TYPE_CHECKING:
    from arlon_cli.config import ModelConfig

_FRAMES = 120


def bench(
    model: options.Model = "diorama",
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="Only tell how much memory each stage of a preset takes; needs no weights."),
    ] = None,
    random: Annotated[
        bool, typer.Option("--random", help="Measure the stages of the --preset with random weights, at any --size.")
    ] = False,
    size: options.Size = None,
    frames: Annotated[
        int | None,
        typer.Option("--frames", help=f"Frames of each video that is rendered.  [default: {_FRAMES}, five seconds]"),
    ] = None,
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats",
            help="How often each is measured, whole videos included; medians are told, and the least and the most.",
        ),
    ] = 5,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Also measure GPT-2 beside the AR Transformer, and eager attention in the DiT."),
    ] = False,
    compile_parts: Annotated[
        bool, typer.Option("--compile", help="With --compare, also measure the DiT as --compile renders with it.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write a report with a bar chart, a single .html file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the report where it exists.")] = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure each stage and a whole video, beside what this machine can do at most."""
    if preset is None and (random or size is not None):
        raise InputError(f"{'--random' if random else '--size'} goes with --preset.")
    if preset is not None and frames is not None:
        raise InputError("--frames goes with --model: of a preset, no video is rendered.")
    if preset is not None and not random and (compare or html is not None):
        raise InputError(
            "--preset alone predicts and measures nothing; --compare and --html go with --random or --model."
        )
    if compile_parts and not compare:
        raise InputError("--compile goes with --compare.")
    if repeats < 1:
        raise InputError(f"--repeats is {repeats}; it is at least 1.")
    own = None if preset is None else _preset(preset)
    if own is not None and not random:
        from arlon_cli.cli.predict import predict

        predict(own, size, dtype, as_json)
        return
    from arlon_cli.cli.report import write_report
    from arlon_cli.cli.speed import Measuring, speed_of_model, speed_of_preset

    report = None if html is None else options.output_path(html, "report.html", overwrite)
    on_event = printer(quiet)
    how = Measuring(repeats, compare, compile_parts, on_event)
    if own is None:
        found = speed_of_model(model, _FRAMES if frames is None else frames, device, dtype, how)
    else:
        found = speed_of_preset(own, size, device, dtype, how)
    if report is not None:
        write_report(report, found.title, found.sections)
        on_event(f"Wrote {report}")
    if as_json:
        print(json.dumps(found.numbers))
        return
    for table in (table for section in found.sections for table in section.tables):
        print_table(table.title, table.columns, table.rows)


def _preset(name: str) -> "ModelConfig":
    from arlon_cli.presets import PRESETS

    if name not in PRESETS:
        raise InputError(f"There is no preset {name!r}; there are {' and '.join(PRESETS)}.")
    return PRESETS[name]
