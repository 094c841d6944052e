"""What `arlon evaluate --heldout` does: a model measured on prompts that it was not trained on."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from arlon_cli.cli.measure import seams_of

if TYPE_CHECKING:
    import numpy as np

    from arlon_cli.evaluation.report import Section
    from arlon_cli.models.attribute_classifier import AttributeClassifier

_REPORTED_CLIPS = 8

Numbers = dict[str, Any]


def held_out_numbers(
    model: str,
    num_clips: int,
    num_frames: int,
    seed: int,
    device: str,
    dtype: str,
    on_event: Callable[[str], None],
) -> Numbers:
    """The numbers of the parts, and of clips of held-out prompts."""
    import numpy as np
    import torch

    from arlon_cli.cli.engine import open_pipeline
    from arlon_cli.evaluation.clips import compare_clips
    from arlon_cli.evaluation.heldout import part_numbers
    from arlon_cli.evaluation.motion import optical_flow
    from arlon_cli.evaluation.prompts import held_out
    from arlon_cli.pipeline.segments import Settings
    from arlon_cli.pipeline.shots import Shot, check_shots
    from arlon_cli.storage.weights import find_weights

    optical_flow()  # better missed now than after the work
    items = held_out(num_clips)
    shots = [check_shots([Shot(item.prompt, num_frames)]) for item in items]
    pipeline = open_pipeline(find_weights(model), device, dtype)
    checkpoint, config = pipeline.checkpoint, pipeline.config
    sampling = config.sampling

    def render(index: int, use_ar: bool) -> "np.ndarray":
        if index % _REPORTED_CLIPS == 0:
            on_event(f"Rendering clip {index + 1} of {num_clips}")
        settings = Settings(seed + index, sampling.steps(use_ar), sampling.guidance_scale, use_ar)
        return np.concatenate(list(pipeline.frames(shots[index], settings)))

    parts = part_numbers(checkpoint, items, pipeline.device, pipeline.dtype, on_event)
    clips = compare_clips(
        cast("AttributeClassifier", checkpoint.load("classifier", pipeline.device, torch.float32)),
        items,
        render,
        num_frames=num_frames,
        size=config.height,
        fps=config.fps,
        seams=seams_of(shots[0], config),
        device=pipeline.device,
        on_event=on_event,
    )
    about = {"model": config.name, "digest": checkpoint.digest, "num_clips": num_clips, "num_frames": num_frames}
    return about | {"seed": seed, "parts": parts, "clips": clips}


def held_out_section(numbers: Numbers) -> "Section":
    """The numbers as tables."""
    from arlon_cli.evaluation.report import Section, Table

    rows = [
        [part.replace("_", " "), name.replace("_", " "), value]
        for part, values in numbers["parts"].items()
        for name, value in values.items()
    ]
    name = f"{numbers['model']} {numbers['digest'][:12]}"
    title = f"{name}: parts on {numbers['num_clips']} held-out scenes"
    parts = Table(title, ["part", "number", "value"], rows)
    sets = numbers["clips"]
    flat = {name: _flat(measured) for name, measured in sets.items()}
    rows = [[row, *(values.get(row) for values in flat.values())] for row in flat["real"]]
    columns = ["number", *(name.replace("_", " ") for name in sets)]
    title = f"{numbers['num_clips']} clips of {numbers['num_frames']} frames"
    return Section(f"{name} on held-out prompts", "", [parts, Table(title, columns, rows)])


def _flat(measured: Numbers) -> Numbers:
    """The numbers of a set of clips, by the words of their rows."""
    accuracy = {f"prompt accuracy, {name}": value for name, value in measured["prompt_accuracy"].items()}
    metrics = {name.replace("_", " "): value for name, value in measured["metrics"].items()}
    return accuracy | {"Fréchet distance to real frames": measured["frechet_distance"]} | metrics
