"""Memory is told from shapes: against what is known of the full size, and against tensors that are really there."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from arlon_cli.evaluation.memory import _peak_bytes, predict_memory
from arlon_cli.presets import DIORAMA, OPENSORA_V1_2


def test_a_peak_is_that_of_what_is_alive_at_once() -> None:
    class Layers(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x + 1  # x and y
            y = y * 2  # x, y and its double
            z = y.view(-1)  # no memory of its own
            del x
            return z + 1

    assert _peak_bytes(Layers(), lambda: Layers()(torch.empty(1000))) == 3 * 4000


def test_the_papers_scale_fits_where_it_should() -> None:
    stages = {stage.name: stage for stage in predict_memory(OPENSORA_V1_2, torch.bfloat16, use_ar=True)}
    assert list(stages) == ["text", "draft", "condition", "denoise", "decode"]
    assert stages["text"].peak_gb == pytest.approx(9.52, abs=0.01)  # 4.76 billion parameters
    own = stages["denoise"].offloaded_weights_gb
    assert own == pytest.approx(2 * (1.2076 + 0.0929 + 0.03), rel=0.02)  # backbone, adapters and the latent VQ-VAE
    assert all(stage.offloaded_peak_gb <= stage.peak_gb for stage in stages.values())
    assert stages["denoise"].weights_gb < stages["decode"].weights_gb + 1e-9
    # two samples of 20 x 1024 tokens: the MLP's hidden layer alone
    assert stages["denoise"].activations_gb > 2 * 20 * 1024 * 4 * 1152 * 2 / 1e9


def test_larger_frames_take_more_and_codes_too() -> None:
    small = predict_memory(DIORAMA, torch.float32, use_ar=False)
    large = predict_memory(replace(DIORAMA, height=256, width=256), torch.float32, use_ar=False)
    assert [stage.name for stage in small] == ["text", "denoise", "decode"]
    assert all(a.weights_gb == b.weights_gb for a, b in zip(small, large, strict=True))
    assert all(a.activations_gb < b.activations_gb / 3 for a, b in zip(small[1:], large[1:], strict=True))
    assert small[-1].peak_gb < predict_memory(DIORAMA, torch.float32, use_ar=True)[-1].peak_gb
