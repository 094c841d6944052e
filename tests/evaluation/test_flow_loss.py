"""Losses of the tiny model's DiT on held-out clips."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from arlon_cli.evaluation.flow_loss import Case, flow_cases, flow_loss
from arlon_cli.evaluation.prompts import held_out
from arlon_cli.models.stdit import STDiT3
from arlon_cli.storage.checkpoint import Checkpoint

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cases(tiny_checkpoint: Path) -> list[Case]:
    return flow_cases(Checkpoint(tiny_checkpoint), held_out(2), 0, CPU, torch.float32)


def test_drafts_begin_with_the_clips_first_codes(cases: list[Case], tiny_checkpoint: Path) -> None:
    again = flow_cases(Checkpoint(tiny_checkpoint), held_out(2), 0, CPU, torch.float32)
    for case, same in zip(cases, again, strict=True):
        assert case.own.shape == case.drafted.shape == case.latents.shape == (1, 4, 5, 4, 4)
        torch.testing.assert_close(case.drafted[:, :, :2], case.own[:, :, :2])  # two latents to a code
        assert not torch.allclose(case.drafted, case.own)
        assert torch.equal(case.drafted, same.drafted)


class Guess(STDiT3):
    """Takes the clip to be F, and has the noise from x_t."""

    def forward(self, x_t: Tensor, timestep: Tensor, *args: object, condition: Tensor, **more: object) -> Tensor:  # type: ignore[override]
        share = (timestep / 1000).view(-1, 1, 1, 1, 1)
        return condition - (x_t - (1 - share) * condition) / share


def test_the_loss_is_0_for_what_knows_the_clip(cases: list[Case], tiny_checkpoint: Path) -> None:
    config = Checkpoint(tiny_checkpoint).config
    guess = Guess(config.dit)
    assert flow_loss(guess, config, cases, lambda case: case.latents) == pytest.approx(0, abs=1e-9)
    off = 0.3  # an error e of F makes one of e + e (1 - t) / t = e / t in v
    expected = sum((off / t) ** 2 for t in (0.1, 0.3, 0.5, 0.7, 0.9)) / 5
    assert flow_loss(guess, config, cases, lambda case: case.latents + off) == pytest.approx(expected, rel=1e-4)


def test_all_that_is_told_counts(cases: list[Case], tiny_checkpoint: Path) -> None:
    checkpoint = Checkpoint(tiny_checkpoint)
    dit = checkpoint.load("dit", CPU, torch.float32)
    assert isinstance(dit, STDiT3)
    losses = [
        flow_loss(dit, checkpoint.config, cases, told)
        for told in (lambda case: case.own, lambda case: case.drafted, lambda case: None, lambda case: case.own)
    ]
    assert len(set(losses[:3])) == 3
    assert losses[3] == losses[0]
