"""`arlon evaluate`: how good videos are, or a model on prompts that it was not trained on."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from arlon_cli.cli import options
from arlon_cli.cli.console import Interrupted, print_line, print_table
from arlon_cli.errors import InputError

if TYPE_CHECKING:
    from arlon_cli.config import ModelConfig
    from arlon_cli.evaluation.videos import Seams
    from arlon_cli.models.attribute_classifier import AttributeClassifier
    from arlon_cli.pipeline.shots import Shot
    from arlon_cli.storage.metadata import VideoMetadata

_VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v", ".gif")
_REPORTED_CLIPS = 8

Numbers = dict[str, Any]
Event = Callable[[str], None]


def evaluate(
    videos: Annotated[list[Path] | None, typer.Argument(help="Videos, or folders of videos.")] = None,
    heldout: Annotated[
        bool, typer.Option("--heldout", help="Measure the model and what it renders of held-out prompts.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="The model to measure, or that made the videos.  [default: diorama]")
    ] = None,
    clips: Annotated[int, typer.Option("--clips", help="How many held-out prompts to render.")] = 48,
    frames: Annotated[int, typer.Option("--frames", help="Frames of each of them.")] = 68,
    seed: options.Seed = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Print metrics of videos, or with --heldout those of a model."""
    if heldout == bool(videos):
        raise InputError("Name videos or folders to evaluate, or else give --heldout.")
    on_event: Event = (lambda message: None) if quiet else print_line
    if videos:
        found = [_measure(path, model, on_event) for path in _video_files(videos)]
        _print_videos(found, as_json)
        return
    options.check_sampling(seed, None, None)
    if clips < 2 or frames < 2:
        raise InputError(f"--clips is {clips} and --frames is {frames}; each is at least 2.")
    try:
        numbers = _held_out_numbers(model or "diorama", clips, frames, seed or 0, device, dtype, on_event)
    except KeyboardInterrupt as error:
        raise Interrupted("Interrupted. The same command goes on: clips that are rendered are kept.") from error
    _print_held_out(numbers, as_json)


def _video_files(paths: Iterable[Path]) -> list[Path]:
    """The videos named, and those in the folders named. Raises InputError where there is none."""
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in _VIDEO_SUFFIXES)
        if not inside:
            raise InputError(f"There is no video in the folder {path}.")
        files += inside
    return files


def _measure(path: Path, model: str | None, on_event: Event) -> tuple[Path, Numbers]:
    from arlon_cli.evaluation.videos import video_metrics
    from arlon_cli.storage.metadata import VideoMetadata
    from arlon_cli.storage.video import probe, read_frames

    on_event(f"Measuring {path}")
    found = probe(path)
    made = VideoMetadata.from_json(found.comment)
    config = None if made is None else _config(made, model)
    seams = None
    if made is not None and config is not None:
        from arlon_cli.pipeline.shots import Shot

        seams = _seams([Shot(shot.prompt, shot.num_frames, shot.cut) for shot in made.shots], config)
    return path, video_metrics(lambda: read_frames(path, width=found.width, height=found.height), found.fps, seams)


def _config(made: "VideoMetadata", model: str | None) -> "ModelConfig | None":
    """The model that made a video; None where it is neither a preset nor the one named."""
    from arlon_cli.config import PRESETS
    from arlon_cli.storage.weights import find_weights, read_config

    configs = dict(PRESETS)
    if model is not None:
        named = read_config(find_weights(model))
        configs[named.name] = named
    return configs.get(made.model)


def _seams(shots: Sequence["Shot"], config: "ModelConfig") -> "Seams":
    """Where a video of these shots was put together."""
    from arlon_cli.evaluation.videos import Seams
    from arlon_cli.pipeline.segments import plan_segments
    from arlon_cli.pipeline.shots import scenes_of

    chunk = config.video_vae.chunk
    joins: list[int] = []
    cuts: list[int] = []
    start = 0
    for scene in scenes_of(shots):
        cuts += [start] if start else []
        num_frames = sum(shot.num_frames for shot in scene)
        later = plan_segments(chunk.latents(num_frames), config.segments)[1:]
        joins += [start + chunk.frames(segment.start + segment.overlap) for segment in later]
        start += num_frames
    return Seams(tuple(joins), tuple(cuts))


def _held_out_numbers(
    model: str, num_clips: int, num_frames: int, seed: int, device_name: str, dtype: str, on_event: Event
) -> Numbers:
    """The numbers of the parts, and of clips of held-out prompts."""
    import numpy as np
    import torch

    from arlon_cli.evaluation.clips import compare_clips
    from arlon_cli.evaluation.heldout import part_numbers
    from arlon_cli.evaluation.motion import optical_flow
    from arlon_cli.evaluation.prompts import held_out
    from arlon_cli.models.device import resolve_device, resolve_dtype
    from arlon_cli.pipeline.pipeline import Pipeline
    from arlon_cli.pipeline.segments import Settings
    from arlon_cli.pipeline.shots import Shot, check_shots
    from arlon_cli.storage.checkpoint import Checkpoint
    from arlon_cli.storage.store import Store
    from arlon_cli.storage.weights import find_weights

    optical_flow()  # better missed now than after the work
    items = held_out(num_clips)
    shots = [check_shots([Shot(item.prompt, num_frames)]) for item in items]
    device = resolve_device(device_name)
    checkpoint = Checkpoint(find_weights(model))
    precision = resolve_dtype(dtype, device)
    pipeline = Pipeline(checkpoint, device=device, dtype=precision, store=Store.from_environment())
    config = checkpoint.config

    def render(index: int, use_ar: bool) -> "np.ndarray":
        if index % _REPORTED_CLIPS == 0:
            on_event(f"Rendering clip {index + 1} of {num_clips}")
        settings = Settings(seed + index, config.sampling.num_steps, config.sampling.guidance_scale, use_ar)
        return np.concatenate(list(pipeline.frames(shots[index], settings)))

    parts = part_numbers(checkpoint, items, device, precision, on_event)
    clips = compare_clips(
        cast("AttributeClassifier", checkpoint.load("classifier", device, torch.float32)),
        items,
        render,
        num_frames=num_frames,
        size=config.height,
        fps=config.fps,
        seams=_seams(shots[0], config),
        device=device,
        on_event=on_event,
    )
    about = {"model": config.name, "digest": checkpoint.digest, "num_clips": num_clips, "num_frames": num_frames}
    return about | {"seed": seed, "parts": parts, "clips": clips}


def _print_videos(found: list[tuple[Path, Numbers]], as_json: bool) -> None:
    from arlon_cli.evaluation.videos import mean_metrics

    mean = mean_metrics([metrics for _, metrics in found])
    if as_json:
        videos = [{"path": str(path)} | metrics for path, metrics in found]
        print(json.dumps({"videos": videos, "mean": mean}, ensure_ascii=False))
        return
    rows = [[str(path), *metrics.values()] for path, metrics in found]
    rows += [["mean", *mean.values()]] if len(found) > 1 else []
    print_table("Videos", ["video", *(name.replace("_", " ") for name in mean)], rows)


def _print_held_out(numbers: Numbers, as_json: bool) -> None:
    if as_json:
        print(json.dumps(numbers, ensure_ascii=False))
        return
    rows = [
        [part.replace("_", " "), name.replace("_", " "), value]
        for part, values in numbers["parts"].items()
        for name, value in values.items()
    ]
    title = f"{numbers['model']} {numbers['digest'][:12]}: parts on {numbers['num_clips']} held-out scenes"
    print_table(title, ["part", "number", "value"], rows)
    sets = numbers["clips"]
    flat = {name: _flat(measured) for name, measured in sets.items()}
    rows = [[name, *(values.get(name) for values in flat.values())] for name in flat["real"]]
    title = f"{numbers['num_clips']} clips of {numbers['num_frames']} frames"
    print_table(title, ["number", *(name.replace("_", " ") for name in sets)], rows)


def _flat(measured: Numbers) -> Numbers:
    """The numbers of a set of clips, by the words of their rows."""
    accuracy = {f"prompt accuracy, {name}": value for name, value in measured["prompt_accuracy"].items()}
    metrics = {name.replace("_", " "): value for name, value in measured["metrics"].items()}
    return accuracy | {"Fréchet distance to real frames": measured["frechet_distance"]} | metrics
