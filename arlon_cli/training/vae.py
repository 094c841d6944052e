"""What the video VAE is trained on: errors of pixels, of their gradients and of their motion, and a little KL."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from arlon_cli.models.video_vae import VideoVAE

_LEAST_SQUARE = 1e-6  # 66 dB: no scene counts for more than one that is drawn so well


@dataclass(frozen=True)
class VAESettings:
    """Weights of the loss, beside 1 for the pixels' absolute error; the KL is the mean over latents.

    `square_weight` is of the logarithm of each scene's mean square error, which is what PSNR counts. The gradient's is
    of absolute errors in space and time, the motion's of square errors in time: within a latent, movement is small
    beside what stays, and is learnt late. `hold_weight` is of how far latents are from where they were, relative to
    their variances, in a VAE that other parts know already.
    """

    square_weight: float
    gradient_weight: float
    motion_weight: float
    kl_weight: float
    hold_weight: float


DIORAMA_VAE = VAESettings(
    square_weight=0.5,
    gradient_weight=0.3,
    motion_weight=4.0,
    kl_weight=1e-6,
    hold_weight=1.5,
)
MATRIX_RATE = 2.0  # of its matrices, as a multiple of the learning rate


def vae_loss(
    vae: VideoVAE, pixels: Tensor, settings: VAESettings, *, crops: int = 1, held: VideoVAE | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of pixels (B, 3, T, H, W), with z drawn from the posterior; each `crops` samples in a row are of one scene.

    With `held`, the VAE as it was, latents are to stay near that one's. Metrics: l1, gradient, motion, kl, psnr (dB,
    the mean of the scenes'), and with `held` `moved`, how far latents are from where they were, as a share of their
    variances.
    """
    mean, logvar = (part.float() for part in vae.posterior(pixels))
    z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
    error = vae.reconstruct(z).float() - pixels
    l1 = error.abs().mean()
    # differencing is linear: the error's differences are those between the two gradients
    gradient = torch.stack([error.diff(dim=dim).abs().mean() for dim in (2, 3, 4)]).mean()
    motion = error.diff(dim=2).square().mean()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    squares = error.square().unflatten(0, (-1, crops)).flatten(1).mean(1).clamp_min(_LEAST_SQUARE).log()
    loss = l1 + settings.square_weight * squares.mean() + settings.gradient_weight * gradient
    loss = loss + settings.motion_weight * motion + settings.kl_weight * kl
    psnr = 10 / math.log(10) * (math.log(4) - squares.mean())
    metrics = {"l1": l1, "gradient": gradient, "motion": motion, "kl": kl, "psnr": psnr}
    if held is not None:
        with torch.no_grad():
            before, _ = held.posterior(pixels)
        moved = (mean - before.float()).square().mean(dim=(0, 2, 3, 4)) / held.latents_var
        metrics["moved"] = moved.mean()
        loss = loss + settings.hold_weight * metrics["moved"]
    return loss, {name: value.detach() for name, value in metrics.items()}


@torch.no_grad()
def latent_statistics(vae: VideoVAE, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of the posterior's means over batches of pixels, for `VideoVAE.set_statistics`."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for pixels in batches:
        values = vae.posterior(pixels)[0].cpu().double().movedim(1, 0).flatten(1)  # (C, positions)
        count += values.shape[1]
        total = total + values.sum(1)
        squares = squares + values.square().sum(1)
    mean = total / count
    return mean, squares / count - mean.square()
