"""The flow's convention: the true v leads to x_0 in one step, condition frames stay, the transform fixes both ends."""

import pytest
import torch
from torch import Tensor

from arlon_cli.sampling.rectified_flow import RectifiedFlow

EVEN = RectifiedFlow()


def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 4, 2, 2, generator=generator), torch.randn(2, 3, 4, 2, 2, generator=generator)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(("num_steps", "start"), [(1, 1000.0), (7, 1000.0), (4, 600.0)])
def test_the_true_v_returns_x_0(num_steps: int, start: float, shift: float) -> None:
    flow, (x_0, noise) = RectifiedFlow(shift), pair()
    z = flow.add_noise(x_0, noise, torch.full((2,), start))
    *_, result = flow.sample(lambda *_: x_0 - noise, z, flow.timesteps(num_steps, start))
    torch.testing.assert_close(result, x_0)


def test_frames_given_as_condition_come_out_untouched() -> None:
    _, noise = pair()
    x_mask = torch.tensor([[False, False, True, True], [True, True, True, False]])
    for z in EVEN.sample(lambda x_t, *_: torch.ones_like(x_t), noise, EVEN.timesteps(5), x_mask=x_mask):
        kept = z.movedim(1, 2) == noise.movedim(1, 2)
        assert kept[~x_mask].all()
        assert not kept[x_mask].any()


def test_guidance_leads_from_the_unconditional_half_past_the_conditional_one() -> None:
    x_0, noise = pair()

    def network(x_t: Tensor, timestep: Tensor, x_mask: Tensor | None) -> Tensor:
        assert len(x_t) == len(timestep) == 4
        assert x_mask is not None and len(x_mask) == 4
        return torch.cat([x_0, noise])

    x_mask = torch.ones(2, 4, dtype=torch.bool)
    z = torch.zeros_like(x_0)
    for scale, expected in ((0.0, noise), (3.0, 3 * x_0 - 2 * noise)):
        (result,) = EVEN.sample(network, z, EVEN.timesteps(1), guidance_scale=scale, x_mask=x_mask)
        torch.testing.assert_close(result, expected)


def test_without_guidance_a_sample_is_seen_once() -> None:
    x_0, _ = pair()

    def network(x_t: Tensor, timestep: Tensor, x_mask: Tensor | None) -> Tensor:
        assert len(x_t) == len(timestep) == 2
        return x_t

    list(EVEN.sample(network, x_0, EVEN.timesteps(2)))


def test_open_soras_timesteps() -> None:
    small = RectifiedFlow.for_video(48, 64, 17).timesteps(4)  # values computed by Open-Sora v1.2
    assert small == pytest.approx([1000.0, 420.6876, 194.8869, 74.6628], abs=1e-3)
    padded = RectifiedFlow.for_video(40, 56, 34).timesteps(3)
    assert padded == pytest.approx([1000.0, 368.9395, 127.5203], abs=1e-3)


def test_a_transformed_schedule_starts_where_it_is_told_to_and_falls() -> None:
    timesteps = RectifiedFlow.for_video(512, 512, 68).timesteps(5, 600.0)
    assert timesteps[0] == pytest.approx(600.0)
    assert timesteps == sorted(timesteps, reverse=True) and timesteps[-1] > 0


@pytest.mark.parametrize(("num_steps", "start"), [(0, 1000.0), (4, 0.0), (4, 1001.0)])
def test_impossible_schedules_are_refused(num_steps: int, start: float) -> None:
    with pytest.raises(ValueError, match=r"num_steps|start_timestep"):
        EVEN.timesteps(num_steps, start)


def test_the_codes_are_an_initialization_only_where_there_are_codes() -> None:
    condition, noise = pair()
    torch.testing.assert_close(EVEN.initial(noise, condition, 600.0), 0.4 * condition + 0.6 * noise)
    assert torch.equal(EVEN.initial(noise, None, 1000.0), noise)
    with pytest.raises(ValueError, match="Without a condition"):
        EVEN.initial(noise, None, 600.0)


def test_the_loss_is_that_of_the_frames_not_given() -> None:
    x_0, noise = pair()
    x_mask = torch.tensor([[False, True, True, True]] * 2)

    def network(x_t: Tensor, timestep: Tensor, mask: Tensor | None) -> Tensor:
        assert torch.equal(x_t[:, :, 0], x_0[:, :, 0])  # given frames are clean
        v = x_0 - noise + 0.5
        v[:, :, 0] = 100.0  # and what is predicted for them does not matter
        return v

    loss = EVEN.loss(network, x_0, noise, torch.tensor([300.0, 800.0]), x_mask)
    torch.testing.assert_close(loss, torch.full((2,), 0.25))
