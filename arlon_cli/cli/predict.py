"""How much memory a preset takes, for `arlon bench --preset`."""

import dataclasses
import json
from typing import TYPE_CHECKING

from arlon_cli.cli.console import print_table

if TYPE_CHECKING:
    from arlon_cli.config import ModelConfig


def predict(own: "ModelConfig", size: str | None, dtype: str, as_json: bool) -> None:
    """Print the memory of each stage of a preset, at its own size or another that it renders."""
    import torch

    from arlon_cli.evaluation.memory import predict_memory
    from arlon_cli.models.device import resolve_dtype
    from arlon_cli.pipeline.sizes import parse_size, sized

    config = own if size is None else sized(own, parse_size(size))
    precision = torch.bfloat16 if dtype == "auto" else resolve_dtype(dtype, torch.device("cpu"))  # as on a GPU
    stages = predict_memory(config, precision, use_ar=config == own)
    most = max(stage.peak_gb for stage in stages), max(stage.offloaded_peak_gb for stage in stages)
    facts = {
        "preset": own.name,
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
    title = f"Predicted GB on the device: {own.name}, {config.width}x{config.height}, {facts['dtype']}"
    print_table(title, ["stage", "weights", "activations", "peak", "peak with --offload"], rows)
