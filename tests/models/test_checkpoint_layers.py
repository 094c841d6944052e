"""Layers that are computed again for the gradient give the same gradient, random numbers included."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from arlon_cli.config import ARConfig, SemanticInjectionConfig, STDiT3Config
from arlon_cli.models import ar_transformer, stdit

AR = ARConfig(
    text_width=8,
    max_text_tokens=4,
    codebook_size=16,
    code_height=2,
    code_width=2,
    window_frames=3,
    previous_frame_input=False,
    text_mean_input=False,
    prompt_end_input=False,
    anchor_frame=False,
    width=16,
    num_layers=3,
    num_heads=2,
    ffn_width=32,
    dropout=0.3,
)
DIT = STDiT3Config(3, False, (1, 2, 2), 32, 3, 2, 2.0, 8, 4, True, 32)
INJECTION = SemanticInjectionConfig(3, (0, 1), "adaptive_norm", "uncertainty", 0.5, True, True)


def output(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    text, text_mask = torch.randn(2, 4, 8, generator=generator), torch.tensor([[True] * 3 + [False]] * 2)
    if isinstance(model, ar_transformer.ARTransformer):
        return model(text, text_mask, torch.randint(16, (2, 3, 2, 2), generator=generator))
    latents = torch.randn(2, 3, 4, 4, 4, generator=generator)
    timestep, fps = torch.tensor([300.0, 700.0]), torch.tensor([24.0])
    return model(latents, timestep, text, text_mask=text_mask, fps=fps, height=32, width=32, condition=latents.roll(1))


def gradients(model: nn.Module, *, again: bool) -> tuple[dict[str, Tensor], int]:
    """The gradients, and how many bytes were kept for them."""
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    model.checkpoint_layers = again  # type: ignore[assignment]
    model.zero_grad()
    torch.manual_seed(3)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        value = output(model).square().mean()
    value.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, kept


@pytest.mark.parametrize("fusion", ["ar", "adaptive_norm", "mlp_adapter", "controlnet"])
def test_gradients_are_the_same_and_less_is_kept(fusion: str) -> None:
    torch.manual_seed(0)
    model: nn.Module
    if fusion == "ar":
        model = ar_transformer.ARTransformer(AR)
    else:
        model = stdit.STDiT3(DIT, replace(INJECTION, fusion=fusion))
        for parameter in model.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.1)
    expected, everything = gradients(model, again=False)
    found, less = gradients(model, again=True)
    assert less < 0.7 * everything
    assert found.keys() == expected.keys()
    assert any(gradient.any() for gradient in found.values())
    for name, gradient in expected.items():
        assert torch.equal(gradient, found[name]), name
