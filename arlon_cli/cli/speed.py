"""What `arlon bench` measures, of a model or of a preset with random weights; imported when it runs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from arlon_cli.cli.whole import render_whole
from arlon_cli.config import ModelConfig
from arlon_cli.evaluation.bench.ceilings import measure_ceilings
from arlon_cli.evaluation.bench.comparisons import Comparison, compare_denoising, compare_drafting
from arlon_cli.evaluation.bench.overview import comparison_section, memory_section, stage_section, whole_section
from arlon_cli.evaluation.bench.random_parts import at_size, buildable_parts, random_part
from arlon_cli.evaluation.bench.segment import segment_numbers
from arlon_cli.evaluation.bench.stages import Stage, encode_texts, measure_stages
from arlon_cli.evaluation.bench.whole import whole_numbers
from arlon_cli.evaluation.memory import predict_memory
from arlon_cli.evaluation.report import Section
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.device import resolve_device, resolve_dtype
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.pipeline.compiling import compile_method
from arlon_cli.pipeline.shots import Shot, check_shots
from arlon_cli.pipeline.sizes import parse_size
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.weights import find_weights

_PROMPT = "A dormant volcano rises above a lush forest by day."
_PARTS = ("text_encoder", "ar", "latent_vqvae", "dit", "video_vae")
_WHOLE = (
    "Each video is made in a process of its own, as `arlon generate` makes it: seconds count from the start of that "
    "process, and loading holds Python's start and its imports. Frames a second are those after loading, from the "
    "codes to the finished mp4."
)
_SEGMENT = "The sum of the stages above, of a video of one segment; in a real one, the writer works beside the others."

Event = Callable[[str], None]


@dataclass(frozen=True)
class Measuring:
    """How often each is measured, whether beside others, and then compiled too."""

    repeats: int
    compare: bool
    compile_parts: bool
    on_event: Event


@dataclass(frozen=True)
class Found:
    """What a benchmark found: stages, all of it as numbers, and as sections of a report."""

    title: str
    stages: Sequence[Stage]
    numbers: dict[str, Any]
    sections: Sequence[Section]


@dataclass(frozen=True)
class Subject:
    """A model at work: the parts that there are, and what loads one on the device in a dtype."""

    name: str
    config: ModelConfig
    parts: Sequence[str]
    load: Callable[[str, torch.dtype], nn.Module]
    device: torch.device
    dtype: torch.dtype


def speed_of_model(model: str, num_frames: int, device: str, dtype: str, how: Measuring) -> Found:
    """A checkpoint's whole videos, stages and, to compare, others. Raises InputError, CheckpointError."""
    check_shots([Shot(_PROMPT, num_frames)])
    place = resolve_device(device)
    precision = resolve_dtype(dtype, place)
    checkpoint = Checkpoint(find_weights(model))
    videos = []
    for number in range(1, how.repeats + 1):
        how.on_event(f"Rendering {num_frames} frames, {number} of {how.repeats}")
        videos.append(render_whole(checkpoint.folder, _PROMPT, num_frames, device, dtype))
    whole = whole_numbers(videos)
    config = checkpoint.config
    load = lambda part, kind: checkpoint.load(part, place, kind)
    found = _measure(Subject(config.name, config, _PARTS, load, place, precision), how)
    about = {"model": config.name, "digest": checkpoint.digest, "weights": "checkpoint"}
    sections = [*found.sections, whole_section(whole, _WHOLE)]
    return replace(found, numbers=about | found.numbers | {"end_to_end": whole}, sections=sections)


def speed_of_preset(own: ModelConfig, size: str | None, device: str, dtype: str, how: Measuring) -> Found:
    """A preset's stages with random weights, a segment as their sum and, to compare, others. Raises InputError."""
    config = own if size is None else at_size(own, parse_size(size))
    place = resolve_device(device)
    precision = resolve_dtype(dtype, place)
    parts, left_out = buildable_parts(config)
    for line in left_out:
        how.on_event(line)
    load = lambda part, kind: random_part(part, config, _PROMPT, place, kind)
    name = f"{config.name} with random weights"
    found = _measure(Subject(name, config, parts, load, place, precision), how)
    numbers = {"preset": config.name, "weights": "random", "left_out": left_out} | found.numbers
    if (segment := segment_numbers(found.stages, config)) is not None:
        found = replace(found, sections=[*found.sections, whole_section(segment, _SEGMENT)])
        numbers["segment"] = segment
    return replace(found, numbers=numbers)


def _measure(subject: Subject, how: Measuring) -> Found:
    """The stages beside the machine's ceilings and, to compare, others."""
    config, device = subject.config, subject.device
    how.on_event("Measuring the stages")
    load = lambda part: subject.load(part, subject.dtype)
    stages = measure_stages(load, subject.parts, config, _PROMPT, device, how.repeats)
    how.on_event("Measuring the machine")
    ceilings = measure_ceilings(device, subject.dtype, config.video_vae, config.height, config.width)
    numbers = {
        "width": config.width,
        "height": config.height,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "dtype": str(subject.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "repeats": how.repeats,
        "stages": [stage.numbers(ceilings) for stage in stages],
        "ceilings": asdict(ceilings),
    }
    where = f"{subject.name}, {config.width}x{config.height}, on {numbers['device']}, {numbers['dtype']}"
    title = f"{where}, {numbers['threads']} CPU threads"
    sections = [stage_section(title, stages, ceilings, how.repeats)]
    if device.type == "cuda":
        predicted = predict_memory(config, subject.dtype, use_ar=True)
        numbers["predicted_peak_gb"] = {found.name: found.offloaded_peak_gb for found in predicted}
        sections.append(memory_section(stages, predicted))
    if how.compare:
        how.on_event("Measuring what else would do the work")
        others = _compare(subject, how)
        numbers["comparisons"] = [other.numbers() for other in others]
        sections.append(comparison_section(others))
    return Found(title, stages, numbers, sections)


@torch.inference_mode()
def _compare(subject: Subject, how: Measuring) -> list[Comparison]:
    texts = None
    if "text_encoder" in subject.parts:
        texts = encode_texts(cast(TextEncoder, subject.load("text_encoder", subject.dtype)), _PROMPT)
    ar = cast(ARTransformer, subject.load("ar", subject.dtype))
    drafting = compare_drafting(ar, subject.config, subject.device, texts, how.repeats)
    dit = cast(STDiT3, subject.load("dit", torch.float32))
    compile_network = (lambda network: compile_method(network, "forward", how.on_event)) if how.compile_parts else None
    denoising = compare_denoising(
        dit, subject.config, subject.device, subject.dtype, texts, how.repeats, compile_network
    )
    return [drafting, *denoising]
