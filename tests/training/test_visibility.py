"""What is seen of an error of latents: a VAE is made whose channels draw patches of known looks."""

import pytest
import torch
from torch import Tensor

from arlon_cli.config import VideoVAEConfig
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.training.visibility import visibility
from arlon_cli.training.vqvae import relative_error

GREY, CHECKERED, RED_TO_CYAN, FLICKER, NOTHING = range(5)


@pytest.fixture
def vae() -> VideoVAE:
    """Channels that change pixels (3, 4, 8, 8) by 1 each, where at all."""
    vae = VideoVAE(VideoVAEConfig(latent_channels=5, widths=(8, 8, 8), num_res_blocks=1))
    t, y, x = torch.meshgrid(torch.arange(4), torch.arange(8), torch.arange(8), indexing="ij")
    patches = torch.zeros(5, 3, 4, 8, 8)
    patches[GREY] = 1
    patches[CHECKERED] = (-1.0) ** (y + x)
    patches[RED_TO_CYAN] = torch.tensor([1.0, -0.6, 0.1])[:, None, None, None]  # as bright as before
    patches[FLICKER] = (-1.0) ** t
    with torch.no_grad():
        vae.linear_decoder.linear.weight.copy_(patches.flatten(1).T)
    return vae


def seen(vae: VideoVAE) -> Tensor:
    return visibility(vae).square().sum(0)


def test_broad_changes_are_seen_more_than_grain_and_flicker_and_all_count(vae: VideoVAE) -> None:
    found = seen(vae)
    assert found[GREY] > 2 * found[CHECKERED]
    torch.testing.assert_close(found[CHECKERED], found[FLICKER])
    assert found[CHECKERED] > found[NOTHING] > 0


def test_a_colour_is_seen_more_than_its_share_of_pixels(vae: VideoVAE) -> None:
    found = seen(vae)
    energy = vae.linear_decoder.linear.weight.square().sum(0)
    assert found[RED_TO_CYAN] / energy[RED_TO_CYAN] > found[CHECKERED] / energy[CHECKERED]


def test_a_normalised_channel_counts_by_what_it_stands_for(vae: VideoVAE) -> None:
    before = seen(vae)
    vae.scale[GREY] = 2.0  # the same patch, drawn by latents twice as large
    after = seen(vae)
    assert after[GREY] / after[CHECKERED] < 0.5 * before[GREY] / before[CHECKERED]


def test_the_error_of_a_condition_counts_as_it_is_seen(vae: VideoVAE) -> None:
    torch.manual_seed(0)
    latents, visible = torch.randn(2, 5, 2, 4, 4), visibility(vae)

    def error(channel: int) -> float:
        wrong = latents.clone()
        wrong[:, channel] += 1
        return relative_error(wrong, latents, visible).item()

    assert relative_error(latents, latents, visible) == 0
    assert error(GREY) > error(CHECKERED) > error(NOTHING) > 0
    assert relative_error(latents.mean((0, 2, 3, 4), keepdim=True).expand_as(latents), latents, visible).item() == (
        pytest.approx(1, abs=0.02)
    )
