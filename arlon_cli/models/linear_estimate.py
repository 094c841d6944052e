"""The best linear guess of v, which the `diorama` preset's DiT corrects instead of starting from nothing."""

import torch
from torch import Tensor, nn


class LinearEstimate(nn.Module):
    """E[v | x_t, F] of latents that are F, or zero without it, plus an error of known variance per channel.

    Preconditioning as in EDM (Karras et al., 2022), for rectified flow and a condition; an addition of ours. With
    x_t - (1 - t) F = (1 - t) error + t noise, the estimate is that of two independent Gaussians.
    """

    variance: Tensor
    error_variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("error_variance", torch.ones(channels))

    @torch.no_grad()
    def set_statistics(self, latents: Tensor, conditions: Tensor) -> None:
        """State the variances of latents (N, C, T, H, W), and of the errors of conditions F of the same shape."""
        dims = (0, 2, 3, 4)
        self.variance.copy_(latents.float().square().mean(dims))
        self.error_variance.copy_((latents.float() - conditions.float()).square().mean(dims))

    def forward(
        self, x_t: Tensor, timestep: Tensor, condition: Tensor | None, condition_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The estimate of v (B, C, T, H, W), and the deviation (B, C, 1, 1, 1) of what it leaves to the network.

        Arguments as of `STDiT3.forward`.
        """
        t = (timestep / 1000.0).to(x_t.dtype).view(-1, 1, 1, 1, 1)
        s = self.variance.to(x_t.dtype).view(1, -1, 1, 1, 1)
        f = torch.zeros_like(x_t)
        if condition is not None:
            guided = torch.ones_like(t, dtype=torch.bool) if condition_mask is None else condition_mask.view_as(t)
            s = torch.where(guided, self.error_variance.to(x_t.dtype).view_as(s), s)
            f = condition.to(x_t.dtype) * guided
        seen = (1 - t) ** 2 * s + t**2  # variance of x_t - (1 - t) F
        shared = (1 - t) * s - t  # its covariance with error - noise
        deviation = (s / seen).clamp_min(1e-6).sqrt()  # of s + 1 - shared² / seen, without its rounding
        return f + shared / seen * (x_t - (1 - t) * f), deviation
