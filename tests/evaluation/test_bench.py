"""What a benchmark counts, without looking at the clock."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from arlon_cli.config import ModelConfig
from arlon_cli.evaluation.bench import measure_denoise, measure_end_to_end, peak_memory
from arlon_cli.models.stdit import STDiT3

CPU = torch.device("cpu")


def test_frames_are_counted_and_the_first_comes_before_the_last() -> None:
    def render() -> Iterator[np.ndarray]:
        for size in (3, 4):
            yield np.zeros((size, 8, 8, 3), np.uint8)

    found = measure_end_to_end(render, CPU)
    assert found.num_frames == 7
    assert 0 < found.seconds_to_first_frame <= 7 / found.frames_per_second


def test_arithmetic_and_weights_are_of_one_step(tiny_config: ModelConfig, tiny_modules: dict[str, nn.Module]) -> None:
    dit = tiny_modules["dit"]
    assert isinstance(dit, STDiT3)
    with torch.inference_mode():
        found = measure_denoise(dit, tiny_config, CPU)
    weights = sum(parameter.nbytes for parameter in dit.parameters())
    seconds = found.rate / 1000
    assert np.isclose(found.weights_gb_per_second * 1e9 * seconds, weights)
    # each weight of a block's linear maps multiplies and adds once per position at least
    blocks = sum(p.numel() for block in (*dit.spatial_blocks, *dit.temporal_blocks) for p in block.parameters())
    positions = tiny_config.segments.num_latents * (tiny_config.height // 16) * (tiny_config.width // 16)
    assert found.tflops * 1e12 * seconds > blocks * positions


def test_memory_has_been_used() -> None:
    used = peak_memory(CPU)
    assert used is None or 0.05 < used < 1000
