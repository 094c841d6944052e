"""The linear estimate leaves nothing to be found linearly, and says how much is left."""

import pytest
import torch

from arlon_cli.models.linear_estimate import LinearEstimate
from arlon_cli.sampling.rectified_flow import RectifiedFlow

SPREADS = torch.tensor([1.5, 0.3]).view(1, 2, 1, 1, 1)
ERRORS = torch.tensor([0.4, 0.1]).view(1, 2, 1, 1, 1)


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("timestep", [50.0, 400.0, 950.0])
def test_what_it_leaves_is_uncorrelated_with_what_is_seen(timestep: float, guided: bool) -> None:
    torch.manual_seed(0)
    shape = (4, 2, 20, 32, 32)
    condition = torch.randn(shape) * SPREADS
    latents = condition + torch.randn(shape) * ERRORS
    noise, t = torch.randn(shape), torch.full((4,), timestep)
    estimate = LinearEstimate(2)
    estimate.set_statistics(latents, condition)
    x_t = RectifiedFlow().add_noise(latents, noise, t)
    v, deviation = estimate(x_t, t, condition, torch.full((4,), guided))
    left = latents - noise - v
    spread = left.square().mean((0, 2, 3, 4)).sqrt()
    torch.testing.assert_close(spread, deviation[0].flatten(), rtol=0.02, atol=0.0)
    for seen in (x_t, condition) if guided else (x_t,):
        correlation = (left * seen).mean((0, 2, 3, 4)) / (spread * seen.square().mean((0, 2, 3, 4)).sqrt())
        assert correlation.abs().max() < 0.02


@pytest.mark.parametrize("timestep", [50.0, 900.0, 1000.0])
def test_in_bfloat16_it_says_the_same(timestep: float) -> None:
    estimate, x_t, t = LinearEstimate(2), torch.randn(1, 2, 3, 4, 4), torch.tensor([timestep])
    estimate.error_variance.fill_(0.01)
    _, expected = estimate(x_t, t, x_t, None)
    _, found = estimate.bfloat16()(x_t.bfloat16(), t, x_t.bfloat16(), None)
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.0)


def test_without_a_mask_every_sample_is_guided() -> None:
    estimate = LinearEstimate(2)
    x_t, condition, t = torch.randn(2, 2, 3, 4, 4), torch.randn(2, 2, 3, 4, 4), torch.tensor([200.0, 700.0])
    everywhere = estimate(x_t, t, condition, torch.tensor([True, True]))
    torch.testing.assert_close(estimate(x_t, t, condition, None), everywhere)
    torch.testing.assert_close(estimate(x_t, t, None, None), estimate(x_t, t, condition, torch.tensor([False, False])))
