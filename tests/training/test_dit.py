"""The DiT learns, and sees what sampling shows it: frames given clean, no text, no condition."""

import dataclasses

import pytest
import torch
from torch import Tensor

from arlon_cli.config import SemanticInjectionConfig, STDiT3Config
from arlon_cli.models.stdit import STDiT3
from arlon_cli.presets import OPENSORA_V1_2
from arlon_cli.storage.checkpoint import ADAPTERS
from arlon_cli.training import dit
from arlon_cli.training.dit import DIORAMA_DIT

ALL_SEEN = dataclasses.replace(DIORAMA_DIT, unmask_probability=0.0, text_dropout=0.0, condition_dropout=0.0)


@pytest.fixture
def model() -> STDiT3:
    torch.manual_seed(0)
    config = STDiT3Config(3, False, (1, 2, 2), 32, 1, 2, 2.0, 8, 5, True, 32)
    return STDiT3(config, SemanticInjectionConfig(3, (0,), "adaptive_norm", "uncertainty", 0.1, True, True))


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(4, 3, 6, 4, 4, generator=generator)
    text = torch.randn(4, 5, 8, generator=generator)
    return latents, text, torch.tensor([[True] * 3 + [False] * 2] * 4), latents + 0.1


def test_a_batch_is_learned(model: STDiT3, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def average() -> float:
        torch.manual_seed(7)
        with torch.no_grad():
            return sum(dit.loss(model, *batch, ALL_SEEN)[0].item() for _ in range(8)) / 8

    before = average()
    for step in range(150):
        torch.manual_seed(step)
        dit.loss(model, *batch, DIORAMA_DIT)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert average() < 0.5 * before


@pytest.mark.parametrize("logit_normal", [False, True])
def test_metrics_are_finite_and_by_timestep(
    model: STDiT3, batch: tuple[Tensor, Tensor, Tensor, Tensor], logit_normal: bool
) -> None:
    torch.manual_seed(0)
    value, metrics = dit.loss(model, *batch, dataclasses.replace(ALL_SEEN, logit_normal=logit_normal))
    assert torch.equal(metrics["loss"], value.detach())
    assert {"loss"} < metrics.keys() <= {"loss", "loss_t0", "loss_t250", "loss_t500", "loss_t750"}
    assert all(metric.isfinite() for metric in metrics.values())


@pytest.mark.parametrize(("setting", "name"), [("text_dropout", "text"), ("condition_dropout", "condition")])
def test_what_is_dropped_has_no_influence(
    model: STDiT3, batch: tuple[Tensor, Tensor, Tensor, Tensor], setting: str, name: str
) -> None:
    model.eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad and not parameter.any():
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    for parameter in model.injection.parameters() if model.injection is not None else ():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    latents, text, text_mask, condition = batch
    other = {"text": (latents, text + 1, text_mask, condition), "condition": (latents, text, text_mask, condition + 1)}

    def value(given: tuple[Tensor, Tensor, Tensor, Tensor], share: float) -> float:
        torch.manual_seed(3)
        return dit.loss(model, *given, dataclasses.replace(ALL_SEEN, **{setting: share}))[0].item()

    assert value(batch, 1.0) == value(other[name], 1.0)
    assert value(batch, 0.0) != value(other[name], 0.0)


def test_frames_are_given_as_sampling_will_give_them() -> None:
    torch.manual_seed(0)
    x_mask = dit.unmask(2000, 17, DIORAMA_DIT)
    assert x_mask.any(dim=1).all()  # something is left to generate
    given = ~x_mask
    share = given.any(dim=1).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.05)
    overlapping = given[:, :4].all(dim=1) & ~given[:, 4:].any(dim=1)
    assert overlapping.float().mean().item() == pytest.approx(0.25, abs=0.05)
    scattered = given.any(dim=1) & ~given[:, 0]
    assert scattered.any()


@pytest.mark.parametrize("num_frames", [1, 2, 4])
def test_short_clips_keep_a_frame_to_generate(num_frames: int) -> None:
    torch.manual_seed(0)
    x_mask = dit.unmask(100, num_frames, dataclasses.replace(DIORAMA_DIT, unmask_probability=1.0))
    assert x_mask.any(dim=1).all()
    assert x_mask.all(dim=1).all() == (num_frames == 1)


@pytest.mark.slow
def test_three_steps_of_adapters_at_full_width_lower_the_loss() -> None:
    """The paper's width and heads, around a frozen backbone of two layers."""
    torch.manual_seed(0)
    config, injection = OPENSORA_V1_2.dit, OPENSORA_V1_2.injection
    model = STDiT3(dataclasses.replace(config, depth=2), dataclasses.replace(injection, layers=(0, 1)))
    torch.nn.init.normal_(model.final_layer.linear.weight, std=0.02)  # as in a trained backbone
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(ADAPTERS))
    model.checkpoint_layers = True
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW(learning, lr=2e-4)
    latents = torch.randn(1, 4, 5, 16, 16)
    text, text_mask = torch.randn(1, 300, 4096), torch.arange(300)[None] < 20
    losses = []
    for _ in range(4):
        torch.manual_seed(1)  # the same noise and timestep
        value, _ = dit.loss(model, latents, text, text_mask, latents + 0.1, ALL_SEEN)
        losses.append(value.item())
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[3] < 0.9 * losses[0]
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)
