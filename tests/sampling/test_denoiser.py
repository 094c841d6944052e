"""What the sampler calls is the DiT, without what says nothing."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arlon_cli.config import ModelConfig
from arlon_cli.models.stdit import STDiT3
from arlon_cli.sampling.denoiser import as_network


@pytest.mark.parametrize(("words", "places"), [((3, 1), 16), ((16, 2), 16), ((17, 3), 32), ((40, 40), 40)])
def test_places_without_words_are_left_out(
    words: tuple[int, int], places: int, tiny_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    dit = STDiT3(tiny_config.dit, tiny_config.injection).eval()
    for parameter in dit.parameters():
        nn.init.normal_(parameter, std=0.1)
    x_t, condition = torch.randn(2, 2, 4, 5, 4, 4)
    text, mask = torch.randn(2, 40, 16), torch.arange(40) < torch.tensor(words)[:, None]
    timestep, fps = torch.tensor([300.0, 900.0]), torch.tensor([24.0])
    seen: list[Tensor] = []
    forward = dit.forward

    def record(x_t: Tensor, timestep: Tensor, text: Tensor, **others: Any) -> Tensor:
        seen.append(text)
        return forward(x_t, timestep, text, **others)

    with torch.inference_mode():
        expected = dit(x_t, timestep, text, text_mask=mask, condition=condition, fps=fps, height=32, width=32)
        monkeypatch.setattr(dit, "forward", record)
        found = as_network(dit, text, mask, condition, fps=24.0, height=32, width=32)(x_t, timestep, None)
    assert [tuple(given.shape) for given in seen] == [(2, places, 16)]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found[0], found[1], atol=0.1)
