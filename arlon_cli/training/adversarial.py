"""The latent VQ-VAE's decoder against a discriminator, so that F is as sharp as latents are, not their blurred mean.

An addition of ours, as VQGAN (Esser et al., 2021) added it to VQ-VAE: the codes stay as they are. What is told apart
are pixels that the video VAE, frozen, makes of small windows: told apart by latents, F learnt coloured specks.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.training.vqvae import relative_error

_STRIDES = ((1, 2, 2), (2, 2, 2), (2, 2, 2))
_WINDOW = (4, 7, 7)  # latents (T, H, W) whose pixels are seen at once, or all where there are fewer
_WINDOWS = 2  # a clip
_PULL = 4.0  # of the discriminator's judgement, and of its features' distance, beside that of the square error
_CONTRAST = 4.0  # of what stands out of its blur


class PatchDiscriminator(nn.Module):
    """Says of pixels (B, 3, T, H, W) how real each place looks, at three sizes of what it sees of them.

    It is shown what stands out of their blur too, of which F has too little.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (6, width, 2 * width, 3 * width)
        self.convolutions = nn.ModuleList(
            nn.Conv3d(widths[i], widths[i + 1], (3, 4, 4), stride, padding=1) for i, stride in enumerate(_STRIDES)
        )
        self.heads = nn.ModuleList(nn.Conv3d(size, 1, 1) for size in widths[1:])

    def forward(self, pixels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """For each size: how real, higher is more so, and the features that it was read from."""
        x, judged, features = torch.cat([pixels, _CONTRAST * (pixels - _blurred(pixels))], dim=1), [], []
        for convolution, head in zip(self.convolutions, self.heads, strict=True):
            x = F.leaky_relu(convolution(x), 0.2)
            judged.append(head(x))
            features.append(x)
        return judged, features


def loss(
    vqvae: LatentVQVAE,
    vae: VideoVAE,
    discriminator: PatchDiscriminator,
    latents: Tensor,
    codes: Tensor,
    visible: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """What decoder and discriminator learn from latents (B, C, T, H, W) and their codes (B, t, h, w).

    Its value is no measure of either. The discriminator's loss is the hinge. F is pulled by its square error, as far as
    it is `visible` (see `relative_error`), by the discriminator's judgement of its pixels, and by the distance of their
    features from those of the latents' pixels (Wang et al., 2018); how hard, is told by the lengths of the three
    gradients and by how much of its loss the discriminator has learnt away: one that knows nothing draws dots. Windows
    come from torch's global random numbers. Metrics: `mse` of F relative to the latents' variance; `judged`, the mean
    judgement; `features`, their distance; `discriminator`, its loss, 2 at first.
    """
    condition = vqvae.decode(codes)[:, :, : latents.shape[2]].float()
    leaf = condition.detach().requires_grad_()
    corners = [_corner(latents) for _ in range(_WINDOWS)]
    made = vae.decode(_windows(leaf, corners))
    with torch.no_grad():
        true = vae.decode(_windows(latents, corners))
    real, real_features = discriminator(true)
    fake, _ = discriminator(made.detach())
    hinge = torch.stack([F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]).mean()

    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    judged, found = functional_call(discriminator, frozen, made)
    judgement = torch.stack([part.mean() for part in judged]).mean()
    distance = torch.stack(
        [F.l1_loss(f, r.detach()) / r.detach().abs().mean() for f, r in zip(found, real_features, strict=True)]
    ).mean()
    mse = relative_error(leaf, latents, visible)
    (pull,) = torch.autograd.grad(mse, leaf)
    skill = (1 - hinge.detach() / 2).clamp(min=0)
    strength = _PULL * skill * pull.norm()
    for term in (-judgement, distance):
        (gradient,) = torch.autograd.grad(term, leaf, retain_graph=True)
        pull = pull + gradient * (strength / gradient.norm().clamp_min(1e-12))
    metrics = {"mse": mse, "judged": judgement, "features": distance, "discriminator": hinge}
    return hinge + (condition * pull).sum(), {name: value.detach() for name, value in metrics.items()}


def _blurred(pixels: Tensor) -> Tensor:
    """The mean of the 3×3 pixels around each, of (B, 3, T, H, W)."""
    return F.avg_pool3d(pixels, (1, 3, 3), 1, (0, 1, 1), count_include_pad=False)


def _corner(latents: Tensor) -> list[int]:
    """Where a window (T, H, W) begins."""
    sizes = latents.shape[2:]
    return [int(torch.randint(max(1, size - part + 1), ())) for size, part in zip(sizes, _WINDOW, strict=True)]


def _windows(latents: Tensor, corners: list[list[int]]) -> Tensor:
    """Those of all samples, (B · windows, C, T, H, W)."""
    t, h, w = _WINDOW
    return torch.cat([latents[:, :, k : k + t, y : y + h, x : x + w] for k, y, x in corners])
