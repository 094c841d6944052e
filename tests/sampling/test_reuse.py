"""Velocities repeated: exact where the flow is straight, never longer than asked for, and none at threshold 0."""

import pytest
import torch
from torch import Tensor

from arlon_cli.sampling.rectified_flow import RectifiedFlow
from arlon_cli.sampling.reuse import Reuse

EVEN = RectifiedFlow()


def bent(x_t: Tensor, timestep: Tensor, x_mask: Tensor | None) -> Tensor:
    """A flow that is not straight."""
    return torch.sin(3 * x_t) + (timestep / 1000).view(-1, 1, 1, 1, 1)


def start() -> Tensor:
    return torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def test_one_evaluation_walks_a_straight_flow() -> None:
    noise, x_0 = start(), start().flip(0)
    network = Reuse(lambda *_: x_0 - noise, 1e9)
    *_, found = EVEN.sample(network, noise, EVEN.timesteps(12))
    assert network.evaluated == 1
    torch.testing.assert_close(found, x_0)


def test_without_a_threshold_every_step_is_computed() -> None:
    network = Reuse(bent, 0.0)
    *_, found = EVEN.sample(network, start(), EVEN.timesteps(12))
    *_, expected = EVEN.sample(bent, start(), EVEN.timesteps(12))
    assert network.evaluated == 12
    assert torch.equal(found, expected)


def test_a_higher_threshold_computes_less_and_errs_more() -> None:
    *_, expected = EVEN.sample(bent, start(), EVEN.timesteps(60))
    evaluated, errors = [], []
    for threshold in (0.02, 0.1, 0.4):
        network = Reuse(bent, threshold)
        *_, found = EVEN.sample(network, start(), EVEN.timesteps(60))
        evaluated.append(network.evaluated)
        errors.append(float((found - expected).abs().mean()))
    assert 60 > evaluated[0] > evaluated[1] > evaluated[2] >= 1
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("threshold", [0.05, 0.2])
def test_a_velocity_is_not_used_beyond_the_change_allowed(threshold: float) -> None:
    seen: list[Tensor] = []
    network = Reuse(lambda x_t, *rest: seen.append(x_t) or bent(x_t, *rest), threshold)
    z, since = start(), 0.0
    for before, after in zip([z, *(walk := list(EVEN.sample(network, z, EVEN.timesteps(40))))], walk, strict=False):
        if any(before is x_t for x_t in seen):
            since = 0.0
        assert since < threshold
        since += float((after - before).abs().mean() / before.abs().mean())
