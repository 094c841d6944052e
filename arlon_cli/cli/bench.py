"""`arlon bench`: how fast a model is on this machine."""

import dataclasses
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arlon_cli.cli import options
from arlon_cli.cli.console import print_table, printer
from arlon_cli.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_PROMPT = "A dormant volcano rises above a lush forest by day."


def bench(
    model: options.Model = "diorama",
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="Only tell how much memory each stage of a preset takes: needs no weights."),
    ] = None,
    size: options.Size = None,
    frames: Annotated[int, typer.Option("--frames", help="Frames of the video that is rendered.")] = 120,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure each stage and a whole video, beside what this machine can do at most."""
    if preset is not None:
        _predict(preset, size, dtype, as_json)
        return
    if size is not None:
        raise InputError("--size goes with --preset.")
    numbers = _measure(model, frames, device, dtype, quiet)
    if as_json:
        print(json.dumps(numbers))
    else:
        _print(numbers)


def _predict(preset: str, size: str | None, dtype: str, as_json: bool) -> None:
    import torch

    from arlon_cli.evaluation.memory import predict_memory
    from arlon_cli.models.device import resolve_dtype
    from arlon_cli.pipeline.sizes import parse_size, sized
    from arlon_cli.presets import PRESETS

    if preset not in PRESETS:
        raise InputError(f"There is no preset {preset!r}; there are {' and '.join(PRESETS)}.")
    own = PRESETS[preset]
    config = own if size is None else sized(own, parse_size(size))
    precision = torch.bfloat16 if dtype == "auto" else resolve_dtype(dtype, torch.device("cpu"))  # as on a GPU
    stages = predict_memory(config, precision, use_ar=config == own)
    most = max(stage.peak_gb for stage in stages), max(stage.offloaded_peak_gb for stage in stages)
    facts = {
        "preset": preset,
        "width": config.width,
        "height": config.height,
        "dtype": str(precision).removeprefix("torch."),
        "stages": [dataclasses.asdict(stage) for stage in stages],
        "peak_gb": most[0],
        "offloaded_peak_gb": most[1],
    }
    if as_json:
        print(json.dumps(facts))
        return
    rows: list[list[str | float | None]] = [
        [stage.name, stage.weights_gb, stage.activations_gb, stage.peak_gb, stage.offloaded_peak_gb] for stage in stages
    ]
    rows.append(["the most", None, None, *most])
    title = f"Predicted GB on the device: {preset}, {config.width}x{config.height}, {facts['dtype']}"
    print_table(title, ["stage", "weights", "activations", "peak", "peak with --offload"], rows)


def _measure(model: str, num_frames: int, device_name: str, dtype: str, quiet: bool) -> dict[str, Any]:
    import tempfile
    from pathlib import Path

    import torch

    from arlon_cli.evaluation.bench import measure_ceilings, measure_end_to_end, measure_stages
    from arlon_cli.models.device import resolve_device, resolve_dtype
    from arlon_cli.pipeline.pipeline import Pipeline
    from arlon_cli.pipeline.segments import Settings
    from arlon_cli.pipeline.shots import Shot, check_shots
    from arlon_cli.storage.checkpoint import Checkpoint
    from arlon_cli.storage.store import Store
    from arlon_cli.storage.weights import find_weights

    shots = check_shots([Shot(_PROMPT, num_frames)])
    device = resolve_device(device_name)
    precision = resolve_dtype(dtype, device)
    checkpoint = Checkpoint(find_weights(model))
    sampling = checkpoint.config.sampling
    on_event = printer(quiet)

    def render() -> Iterator["np.ndarray"]:
        with tempfile.TemporaryDirectory() as folder:  # a store without what earlier runs have left
            store = dataclasses.replace(Store.from_environment(), folder=Path(folder))
            pipeline = Pipeline(checkpoint, device=device, dtype=precision, store=store)
            settings = Settings(0, sampling.num_steps, sampling.guidance_scale, use_ar=True)
            yield from pipeline.frames(shots, settings)

    on_event(f"Rendering {num_frames} frames")
    whole = measure_end_to_end(render, device)
    on_event("Measuring the stages")
    stages = measure_stages(checkpoint, device, precision)
    on_event("Measuring the machine")
    ceilings = measure_ceilings(device, precision)
    return {
        "model": checkpoint.config.name,
        "digest": checkpoint.digest,
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "dtype": str(precision).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "end_to_end": dataclasses.asdict(whole),
        "stages": [dataclasses.asdict(stage) for stage in stages],
        "ceilings": dataclasses.asdict(ceilings),
    }


def _print(numbers: dict[str, Any]) -> None:
    ceilings = numbers["ceilings"]
    rows: list[list[str | float | None]] = []
    for stage in numbers["stages"]:
        shares = (
            stage["tflops"] / ceilings["matmul_tflops"],
            stage["weights_gb_per_second"] / ceilings["memory_gb_per_second"],
        )
        values = [stage["tflops"], stage["weights_gb_per_second"]]
        rows.append([stage["name"], f"{stage['rate']:.4g} {stage['unit']}", *values, *(f"{s:.1%}" for s in shares)])
    rows.append(["the machine", "", *ceilings.values(), "100%", "100%"])
    title = f"{numbers['model']} on {numbers['device']}, {numbers['dtype']}, {numbers['threads']} CPU threads"
    columns = ["stage", "speed", "TFLOP/s", "weights read, GB/s", "of matmul", "of bandwidth"]
    print_table(title, columns, rows)
    whole = {name.replace("_", " "): value for name, value in numbers["end_to_end"].items()}
    print_table("A whole video, loading included", ["number", "value"], [list(pair) for pair in whole.items()])
