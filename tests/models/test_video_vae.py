"""The video VAE: nothing looks ahead, chunks equal the whole, latents are normalised and come back."""

import pytest
import torch
from torch import Tensor

from arlon_cli.config import VideoVAEConfig
from arlon_cli.errors import InputError
from arlon_cli.models.video_vae import Glide, VideoVAE
from arlon_cli.presets import DIORAMA

CONFIG = VideoVAEConfig(latent_channels=6, widths=(8, 12, 16), num_res_blocks=1)


@pytest.fixture
def vae() -> VideoVAE:
    """A tiny VAE whose zero-initialised layers are drawn too, so that every path counts."""
    torch.manual_seed(0)
    vae = VideoVAE(CONFIG).eval()
    with torch.no_grad():
        for parameter in vae.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(0, 0.2)
    vae.set_statistics(torch.randn(6), torch.rand(6) + 0.5)
    return vae


@pytest.fixture
def pixels() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 3, 24, 16, 24) * 2 - 1


@pytest.mark.parametrize(("frames", "height", "width"), [(4, 8, 8), (20, 16, 24)])
def test_shapes(vae: VideoVAE, frames: int, height: int, width: int) -> None:
    pixels = torch.zeros(2, 3, frames, height, width)
    latents = vae.encode(pixels)
    assert latents.shape == (2, 6, frames // 4, height // 8, width // 8)
    assert vae.decode(latents).shape == pixels.shape


@pytest.mark.parametrize("shape", [(6, 16, 16), (8, 12, 16), (8, 16, 20)])
def test_sizes_that_do_not_fit_are_refused(vae: VideoVAE, shape: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="multiples of 4 frames"):
        vae.encode(torch.zeros(1, 3, *shape))


@torch.no_grad()
def test_a_latent_depends_on_its_frames_and_earlier_ones_only(vae: VideoVAE, pixels: Tensor) -> None:
    changed = pixels.clone()
    changed[:, :, 12:] = torch.rand_like(changed[:, :, 12:])
    before, after = vae.encode(pixels), vae.encode(changed)
    assert torch.equal(before[:, :, :3], after[:, :, :3])
    assert not torch.allclose(before[:, :, 3], after[:, :, 3])
    logvar_before, logvar_after = vae.posterior(pixels)[1], vae.posterior(changed)[1]
    assert torch.equal(logvar_before[:, :, :3], logvar_after[:, :, :3])


@torch.no_grad()
def test_frames_depend_on_their_latent_and_earlier_ones_only(vae: VideoVAE) -> None:
    latents = torch.randn(1, 6, 6, 2, 3)
    changed = latents.clone()
    changed[:, :, 4:] += 1
    before, after = vae.decode(latents), vae.decode(changed)
    assert torch.equal(before[:, :, :16], after[:, :, :16])
    assert not torch.allclose(before[:, :, 16], after[:, :, 16])


@pytest.mark.parametrize("lengths", [(1,) * 6, (1, 3, 2), (5, 1), (6,)])
def test_streamed_equals_whole(vae: VideoVAE, pixels: Tensor, lengths: tuple[int, ...]) -> None:
    with torch.no_grad():
        latents = vae.encode(pixels)
        whole = vae.decode(latents)
    streamed = list(vae.encode_stream(pixels.split([4 * n for n in lengths], dim=2)))
    assert [part.shape[2] for part in streamed] == list(lengths)
    torch.testing.assert_close(torch.cat(streamed, dim=2), latents, rtol=1e-4, atol=1e-5)
    decoded = torch.cat(list(vae.decode_stream(latents.split(list(lengths), dim=2))), dim=2)
    torch.testing.assert_close(decoded, whole, rtol=1e-4, atol=1e-5)


def test_two_streams_at_once_do_not_meet(vae: VideoVAE) -> None:
    one, other = torch.randn(1, 6, 4, 2, 2), torch.randn(1, 6, 4, 2, 2)
    alone = list(vae.decode_stream(one.split(1, dim=2)))
    both = zip(vae.decode_stream(one.split(1, dim=2)), vae.decode_stream(other.split(1, dim=2)), strict=True)
    for expected, (found, _) in zip(alone, both, strict=True):
        assert torch.equal(expected, found)


def test_equal_frames_become_an_even_way_from_the_group_before() -> None:
    pictures = torch.randn(2, 3, 1, 2, 2, 3)
    frames = Glide(4)(pictures.expand(-1, -1, 4, -1, -1, -1).flatten(1, 2))
    assert torch.equal(frames[:, :4], pictures[:, 0].expand(-1, 4, -1, -1, -1))
    steps = frames[:, 3:].diff(dim=1).unflatten(1, (2, 4))
    torch.testing.assert_close(steps, pictures.diff(dim=1).expand_as(steps) / 4)


def test_even_motion_stays_as_it_is() -> None:
    motion = torch.randn(2, 1, 2, 2, 3) + torch.arange(12.0).view(1, 12, 1, 1, 1) * torch.randn(2, 1, 2, 2, 3)
    torch.testing.assert_close(Glide(4)(motion), motion)


@torch.no_grad()
def test_statistics_centre_latents_and_take_the_fourth_root_of_their_spread(vae: VideoVAE, pixels: Tensor) -> None:
    mean, _ = vae.posterior(pixels)
    variance = mean.var(dim=(0, 2, 3, 4), unbiased=False)
    vae.set_statistics(mean.mean(dim=(0, 2, 3, 4)), variance)
    latents = vae.encode(pixels)
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3, 4)), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.var(dim=(0, 2, 3, 4), unbiased=False), variance.sqrt())
    torch.testing.assert_close(vae.decode(latents), vae.reconstruct(mean), atol=1e-5, rtol=1e-4)


def smooth_pixels(seed: int) -> Tensor:
    """Moving low-resolution noise, enlarged: (4, 3, 16, 32, 32)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(4, 3, 3, 3, 3, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(noise, size=(16, 32, 32), mode="trilinear", align_corners=True)


@torch.no_grad()
def test_principal_components_reconstruct_smooth_pixels_unseen() -> None:
    torch.manual_seed(0)
    vae = VideoVAE(CONFIG)
    unseen = smooth_pixels(1)
    drawn = (vae.decode(vae.encode(unseen)) - unseen).square().mean()
    vae.init_from_patches(smooth_pixels(0))
    started = (vae.decode(vae.encode(unseen)) - unseen).square().mean()
    assert started < 0.1 * drawn
    latents = vae.encode(smooth_pixels(0))
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3, 4)), torch.zeros(6), atol=1e-4, rtol=0)
    assert latents.var(dim=(0, 2, 3, 4), unbiased=False).mean().item() == pytest.approx(1, rel=1e-3)


def test_built_on_the_meta_device_it_takes_the_weights(vae: VideoVAE, pixels: Tensor) -> None:
    with torch.device("meta"):
        loaded = VideoVAE(CONFIG)
    loaded.load_state_dict(vae.state_dict(), strict=True, assign=True)
    assert torch.equal(loaded.encode(pixels), vae.encode(pixels))


@torch.no_grad()
def test_bfloat16_stays_near(vae: VideoVAE, pixels: Tensor) -> None:
    expected = vae.encode(pixels)
    found = vae.to(torch.bfloat16).encode(pixels.bfloat16())
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_the_dioramas_size() -> None:
    with torch.device("meta"):
        vae = VideoVAE(DIORAMA.video_vae)
    assert 3_000_000 < sum(p.numel() for p in vae.parameters()) < 4_000_000


@torch.no_grad()
@pytest.mark.parametrize("num_res_blocks", [1, 2])
def test_frames_need_no_latents_before_the_context(num_res_blocks: int) -> None:
    torch.manual_seed(0)
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, widths=(8, 8, 8), num_res_blocks=num_res_blocks)).eval()
    for parameter in vae.parameters():
        if parameter.ndim > 1 and not parameter.any():
            parameter.normal_(0, 0.2)
    latents = torch.randn(1, 4, 16, 1, 1)
    late = vae.decode(latents[:, :, 12 - vae.decoder_context :])[:, :, 4 * vae.decoder_context :]
    torch.testing.assert_close(late, vae.decode(latents)[:, :, 48:])
