"""What the video VAE is trained on: errors of pixels, of their gradients and of their motion, and a little KL."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from arlon_cli.models.video_vae import VideoVAE


@dataclass(frozen=True)
class VAESettings:
    """Weights of the loss, beside 1 for the pixels' absolute error; the KL is the mean over latents.

    The gradient's is of absolute errors in space and time, the motion's of square errors in time: within a latent,
    movement is small beside what stays, and is learnt late.
    """

    square_weight: float
    gradient_weight: float
    motion_weight: float
    kl_weight: float


DIORAMA_VAE = VAESettings(
    square_weight=4.0,
    gradient_weight=0.5,
    motion_weight=4.0,
    kl_weight=1e-6,
)


def vae_loss(vae: VideoVAE, pixels: Tensor, settings: VAESettings) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of pixels (B, 3, T, H, W), with z drawn from the posterior; metrics: l1, gradient, motion, kl, psnr (dB)."""
    mean, logvar = (part.float() for part in vae.posterior(pixels))
    z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
    error = vae.reconstruct(z).float() - pixels
    l1 = error.abs().mean()
    # differencing is linear: the error's differences are those between the two gradients
    gradient = torch.stack([error.diff(dim=dim).abs().mean() for dim in (2, 3, 4)]).mean()
    motion = error.diff(dim=2).square().mean()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    square = error.square().mean()
    loss = l1 + settings.square_weight * square + settings.gradient_weight * gradient
    loss = loss + settings.motion_weight * motion + settings.kl_weight * kl
    psnr = 10 * torch.log10(4 / square.clamp_min(1e-12))
    metrics = {"l1": l1, "gradient": gradient, "motion": motion, "kl": kl, "psnr": psnr}
    return loss, {name: value.detach() for name, value in metrics.items()}


@torch.no_grad()
def latent_statistics(vae: VideoVAE, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of the posterior's means over batches of pixels, for `VideoVAE.set_statistics`."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for pixels in batches:
        values = vae.posterior(pixels)[0].double().cpu().movedim(1, 0).flatten(1)  # (C, positions)
        count += values.shape[1]
        total = total + values.sum(1)
        squares = squares + values.square().sum(1)
    mean = total / count
    return mean, squares / count - mean.square()
