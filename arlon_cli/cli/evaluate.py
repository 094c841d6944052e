"""`arlon evaluate`: how good videos are, or a model on prompts that it was not trained on."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arlon_cli.cli import options
from arlon_cli.cli.console import Interrupted, print_result, print_table, printer
from arlon_cli.cli.report import write_report
from arlon_cli.errors import InputError

if TYPE_CHECKING:
    from arlon_cli.evaluation.paper.studio import Studio
    from arlon_cli.evaluation.report import Section

_CLIPS, _CLIP_FRAMES, _SUITE_FRAMES, _TRAINING_STEPS = 48, 68, 600, 100

Event = Callable[[str], None]


@dataclass(frozen=True)
class Found:
    """What an evaluation found: as numbers, as sections of a report, and those of them that are printed.

    `problems` stood against whatever was left out.
    """

    title: str
    numbers: dict[str, Any]
    sections: "Sequence[Section]"
    printed: "Sequence[Section]"
    problems: Sequence[InputError] = ()


def evaluate(
    videos: Annotated[list[Path] | None, typer.Argument(help="Videos, or folders of videos.")] = None,
    heldout: Annotated[
        bool, typer.Option("--heldout", help="Measure the model and what it renders of held-out prompts.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="The model to measure, or that made the videos.  [default: diorama]")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option("--suite", metavar="paper", help="Run the paper's experiments on the model; takes hours."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Run this experiment of the suite, as table-1; may be repeated."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="FOLDER",
            help="Where the suite keeps what it has found; run again, it does only what is missing.  "
            "[default: named by the model, here]",
        ),
    ] = None,
    training_steps: Annotated[
        int | None,
        typer.Option(
            "--training-steps",
            help="How long each of the nine variants of table-3 is trained; with the default, that table takes two CPU "
            f"cores about an hour.  [default: {_TRAINING_STEPS}]",
        ),
    ] = None,
    clips: Annotated[
        int | None,
        typer.Option("--clips", "--prompts", help=f"How many held-out prompts to render.  [default: {_CLIPS}]"),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            help="Frames of each of them, or of the suite's long videos.  "
            f"[default: {_CLIP_FRAMES}; of the suite {_SUITE_FRAMES}]",
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write a report with pictures and plots, a single .html file.")
    ] = None,
    export_vbench: Annotated[
        Path | None,
        typer.Option(
            "--export-vbench",
            metavar="FOLDER",
            help="Only copy the videos to a new folder, laid out and named for VBench.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the report where it exists.")] = False,
    seed: options.Seed = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Print metrics of videos, or with --heldout or --suite those of a model."""
    if [bool(videos), heldout, suite is not None].count(True) != 1:
        raise InputError("Name videos or folders to evaluate, or else give --heldout or --suite paper.")
    if suite is None and (only or results is not None or training_steps is not None):
        raise InputError("--only, --results and --training-steps are for --suite.")
    if videos and (clips is not None or frames is not None or seed is not None):
        raise InputError("--clips, --frames and --seed are for what --heldout and --suite render.")
    clips = _CLIPS if clips is None else clips
    options.check_sampling(seed)
    report = None if html is None else options.output_path(html, "report.html", overwrite)
    on_event = printer(quiet)
    if export_vbench is not None and report is not None:
        raise InputError("--export-vbench only copies videos; --html is a report of metrics. Give one of them.")
    if export_vbench is not None:
        _export(videos, export_vbench, as_json)
        return
    try:
        if videos:
            found = _of_videos(videos, model, report is not None, on_event)
        elif suite is not None:
            from arlon_cli.cli.suite import check_suite, open_studio

            length = _SUITE_FRAMES if frames is None else frames
            steps = _TRAINING_STEPS if training_steps is None else training_steps
            names = check_suite(suite, clips, length, steps, only or [])
            studio = open_studio(model or "diorama", results, clips, length, steps, seed or 0, device, dtype, on_event)
            found = _of_suite(studio, names)
        else:
            frames = _CLIP_FRAMES if frames is None else frames
            found = _of_model(model or "diorama", clips, frames, seed or 0, device, dtype, on_event)
    except KeyboardInterrupt as error:
        raise Interrupted("Interrupted. The same command goes on: what is rendered is kept.") from error
    if report is not None:
        write_report(report, found.title, found.sections)
        on_event(f"Wrote {report}")
    if as_json:
        print(json.dumps(found.numbers, ensure_ascii=False))
    else:
        for table in (table for section in found.printed for table in section.tables):
            print_table(table.title, table.columns, table.rows)
    if found.problems:
        raise InputError(f"Not all could be measured. {' '.join(map(str, found.problems))}")


def _of_videos(videos: Sequence[Path], model: str | None, with_sheets: bool, on_event: Event) -> Found:
    from arlon_cli.cli.measure import measure_videos, video_files
    from arlon_cli.evaluation.overview import closer_look, overview
    from arlon_cli.evaluation.videos import mean_metrics

    found, problems = measure_videos(video_files(videos), model, with_sheets, on_event)
    metrics = [video.measured.metrics for video in found]
    listed = [{"path": video.name} | values for video, values in zip(found, metrics, strict=True)]
    all_of_them = overview(found)
    sections = [all_of_them, *map(closer_look, found)]
    return Found("Videos", {"videos": listed, "mean": mean_metrics(metrics)}, sections, [all_of_them], problems)


def _of_model(
    model: str, num_clips: int, num_frames: int, seed: int, device: str, dtype: str, on_event: Event
) -> Found:
    from arlon_cli.cli.heldout import held_out_numbers, held_out_section

    if num_clips < 2 or num_frames < 2:
        raise InputError(f"--clips is {num_clips} and --frames is {num_frames}; each is at least 2.")
    numbers = held_out_numbers(model, num_clips, num_frames, seed, device, dtype, on_event)
    section = held_out_section(numbers)
    return Found(section.title, numbers, [section], [section])


def _of_suite(studio: "Studio", names: Sequence[str]) -> Found:
    from arlon_cli.cli.suite import run_suite

    numbers, sections = run_suite(studio, names)
    title = f"The paper's experiments on {studio.config.name} {studio.digest[:12]}"
    return Found(title, numbers, sections, sections)


def _export(videos: Sequence[Path] | None, folder: Path, as_json: bool) -> None:
    """Copy the videos for VBench and print where they are. Raises InputError for a video that names no prompt."""
    from arlon_cli.cli.measure import video_files
    from arlon_cli.evaluation.vbench import export_vbench
    from arlon_cli.storage.video import probe, read_metadata

    if not videos:
        raise InputError("Name the videos or folders to export for VBench.")
    named: list[tuple[Path, str]] = []
    for path in video_files(videos):
        probe(path)
        made = read_metadata(path)
        if made is None:
            raise InputError(f"{path} does not say what its prompt was; only videos that arlon made can be exported.")
        named.append((path, " ".join(dict.fromkeys(shot.prompt for shot in made.shots))))
    export_vbench(named, folder)
    print_result(folder, {"num_videos": len(named)}, as_json)
