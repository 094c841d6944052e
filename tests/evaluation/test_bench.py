"""What a benchmark counts, without looking at the clock."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from arlon_cli.config import ModelConfig
from arlon_cli.evaluation.bench import _stage, measure_denoise, measure_draft, measure_end_to_end, peak_memory
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.stdit import STDiT3
from arlon_cli.sampling import autoregressive

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


def test_attention_is_counted() -> None:
    q, k, v = torch.randn(3, 2, 4, 16, 8).unbind()
    attention = lambda: F.scaled_dot_product_attention(q, k, v)
    with torch.inference_mode():
        found = _stage("attention", "calls/s", nn.Linear(1, 1), attention, CPU, per_call=1, passes=1)
    assert found.gflops * 1e9 == pytest.approx(2 * (2 * 2 * 4 * 16 * 16 * 8))


def test_passes_of_a_draft_are_those_that_were_made(
    tiny_config: ModelConfig, tiny_modules: dict[str, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    ar = tiny_modules["ar"]
    assert isinstance(ar, ARTransformer)
    weights = sum(parameter.nbytes for parameter in ar.parameters())
    config = replace(tiny_config, sampling=replace(tiny_config.sampling, ar_temperature=0.0))  # so that codes stay

    def passes() -> float:
        with torch.inference_mode():
            found = measure_draft(ar, config, CPU, num_frames=8)
        return found.weights_gb_per_second * 1e9 * found.seconds / weights

    guessing = passes()
    monkeypatch.setattr(autoregressive, "_GUESSES", 0)
    one_by_one = passes()
    assert one_by_one == pytest.approx(8 * (ar.codes_per_frame + 1))  # each code, and what ends its frame
    assert 2 * 8 <= guessing < one_by_one


def test_memory_has_been_used() -> None:
    used = peak_memory(CPU)
    assert used is None or 0.05 < used < 1000
