"""Training the video VAE: one batch is learnt, and the statistics are those of all batches."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from arlon_cli.config import VideoVAEConfig
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.training.vae import DIORAMA_VAE, latent_statistics, vae_loss

CONFIG = VideoVAEConfig(latent_channels=6, widths=(16, 24, 32), num_res_blocks=1)


def smooth_pixels(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(2, 3, 4, 8, 8, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(noise, size=(8, 32, 32), mode="trilinear", align_corners=True)


def test_one_batch_is_learnt() -> None:
    torch.manual_seed(0)
    vae, pixels = VideoVAE(CONFIG), smooth_pixels(0)
    vae.init_from_patches(pixels)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=4e-3)
    values, metrics = [], []
    for _ in range(60):
        loss, measured = vae_loss(vae, pixels, DIORAMA_VAE)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        values.append(loss.item())
        metrics.append(measured)
    assert values[-1] < 0.6 * values[0]
    assert metrics[-1]["psnr"] > metrics[0]["psnr"] + 3
    assert metrics[-1]["l1"] < metrics[0]["l1"]


def test_motion_counts() -> None:
    torch.manual_seed(0)
    vae, pixels = VideoVAE(CONFIG), smooth_pixels(0)
    found = []
    for settings in (DIORAMA_VAE, replace(DIORAMA_VAE, motion_weight=0.0)):
        torch.manual_seed(1)
        found.append(vae_loss(vae, pixels, settings))
    (counted, metrics), (without, _) = found
    assert metrics["motion"] > 0
    assert (counted - without).item() == pytest.approx(DIORAMA_VAE.motion_weight * metrics["motion"].item(), rel=1e-3)


def test_squares_count_by_scene() -> None:
    torch.manual_seed(0)
    vae, pixels = VideoVAE(CONFIG), torch.cat([smooth_pixels(0), 0.1 * smooth_pixels(1)])
    losses = {}
    for crops in (1, 2, 4):
        torch.manual_seed(1)
        loss, metrics = vae_loss(vae, pixels, DIORAMA_VAE, crops=crops)
        losses[crops] = loss.item()
        torch.manual_seed(1)
        mean, logvar = vae.posterior(pixels)
        error = vae.reconstruct(mean + (0.5 * logvar).exp() * torch.randn_like(mean)) - pixels
        scenes = [10 * torch.log10(4 / scene.square().mean()) for scene in error.split(crops)]
        assert metrics["psnr"].item() == pytest.approx(torch.stack(scenes).mean().item(), rel=1e-4)
    assert losses[1] < losses[2] < losses[4]  # a mean of logarithms is below the logarithm of the mean


def test_latents_are_held_where_they_were() -> None:
    torch.manual_seed(0)
    vae, pixels = VideoVAE(CONFIG), smooth_pixels(0)
    vae.init_from_patches(pixels)
    vae.set_statistics(*latent_statistics(vae, [pixels]))
    moved = []
    for settings in (DIORAMA_VAE, replace(DIORAMA_VAE, hold_weight=0.0)):
        torch.manual_seed(1)
        learner = deepcopy(vae)
        optimizer = torch.optim.AdamW(learner.parameters(), lr=4e-3)
        for step in range(30):
            loss, metrics = vae_loss(learner, pixels, settings, held=vae)
            if step == 0:
                assert metrics["moved"] == 0
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        moved.append(vae_loss(learner, pixels, settings, held=vae)[1]["moved"].item())
        shift = (learner.encode(pixels) - vae.encode(pixels)).square().mean(dim=(0, 2, 3, 4))
        spread = vae.encode(pixels).var(dim=(0, 2, 3, 4), unbiased=False)
        assert moved[-1] == pytest.approx((shift / spread).mean().item(), rel=1e-3)
    assert moved[0] < 0.5 * moved[1]


def test_autocast_to_bfloat16_stays_near() -> None:
    torch.manual_seed(0)
    vae, pixels = VideoVAE(CONFIG), smooth_pixels(0)
    vae.init_from_patches(pixels)
    losses = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            losses.append(vae_loss(vae, pixels, DIORAMA_VAE)[0])
    losses[1].backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.05)


def test_every_parameter_is_trained_after_the_first_step() -> None:
    torch.manual_seed(0)
    vae, pixels = VideoVAE(CONFIG), smooth_pixels(0)
    optimizer = torch.optim.SGD(vae.parameters(), lr=1e-2)
    for _ in range(2):  # zero-initialised heads hold gradients back at first
        optimizer.zero_grad()
        vae_loss(vae, pixels, DIORAMA_VAE)[0].backward()
        optimizer.step()
    assert [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_posterior_is_sampled_from_the_global_generator() -> None:
    torch.manual_seed(0)
    vae, pixels = VideoVAE(CONFIG), smooth_pixels(0)
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(vae_loss(vae, pixels, DIORAMA_VAE)[0].item())
    assert losses[0] == losses[1] != losses[2]


def test_statistics_of_parts_are_those_of_the_whole() -> None:
    torch.manual_seed(0)
    vae = VideoVAE(CONFIG)
    batches = [smooth_pixels(1), smooth_pixels(2)[:, :, :4]]
    values = torch.cat([vae.posterior(b)[0].detach().movedim(1, 0).flatten(1) for b in batches], dim=1).double()
    mean, variance = latent_statistics(vae, batches)
    torch.testing.assert_close(mean, values.mean(1))
    torch.testing.assert_close(variance, values.var(1, unbiased=False))
