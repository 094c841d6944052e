"""The latent VQ-VAE's decoder, and the DiT, against a discriminator: sharp as latents are, not their blurred mean.

An addition of ours, as VQGAN (Esser et al., 2021) added it to VQ-VAE: the codes stay as they are. What is told apart
are pixels that the video VAE, frozen, makes of small windows: told apart by latents, F learnt coloured specks.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.sampling.denoiser import as_network
from arlon_cli.sampling.rectified_flow import RectifiedFlow
from arlon_cli.training.dit import DiTTrainingConfig, unmask

_STRIDES = ((1, 2, 2), (2, 2, 2), (2, 2, 2))
_WINDOW = (4, 7, 7)  # latents (T, H, W) whose pixels are seen at once, or all where there are fewer
_WINDOWS = 2  # a clip
_PULL = 0.7  # of the discriminator's judgement, and of its features' distance, beside that of the square error


class PatchDiscriminator(nn.Module):
    """Says of pixels (B, 3, T, H, W) how real each place looks, at three sizes of what it sees of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 3 * width)
        self.convolutions = nn.ModuleList(
            nn.Conv3d(widths[i], widths[i + 1], (3, 4, 4), stride, padding=1) for i, stride in enumerate(_STRIDES)
        )
        self.heads = nn.ModuleList(nn.Conv3d(size, 1, 1) for size in widths[1:])

    def forward(self, pixels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """For each size: how real, higher is more so, and the features that it was read from."""
        x, judged, features = pixels, [], []
        for convolution, head in zip(self.convolutions, self.heads, strict=True):
            x = F.leaky_relu(convolution(x), 0.2)
            judged.append(head(x))
            features.append(x)
        return judged, features


def decoder_loss(
    vqvae: LatentVQVAE, vae: VideoVAE, discriminator: PatchDiscriminator, latents: Tensor, codes: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """What decoder and discriminator learn from latents (B, C, T, H, W) and their codes (B, t, h, w): `_loss` of F."""
    condition = vqvae.decode(codes)[:, :, : latents.shape[2]].float()
    return _loss(condition, latents, vae, discriminator)


def dit_loss(
    model: STDiT3,
    vae: VideoVAE,
    discriminator: PatchDiscriminator,
    latents: Tensor,
    text: Tensor,
    text_mask: Tensor,
    condition: Tensor,
    config: DiTTrainingConfig,
    start_timestep: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """What DiT and discriminator learn from latents, and F, (B, C, T, H, W) and text (B, L, C) with its mask (B, L).

    `_loss` of what sampling from `start_timestep` gives in one step (after Sauer et al., 2023): as the square error
    alone has it, the mean of all that F may stand for, which neither is sharp nor moves.
    """
    flow = RectifiedFlow(config.shift)
    x_mask = unmask(len(latents), latents.shape[2], config).to(latents.device)
    z = flow.initial(torch.randn_like(latents), condition, start_timestep)
    z = torch.where(x_mask[:, None, :, None, None], z, latents)
    height, width = (VideoVAE.spatial_ratio * size for size in latents.shape[3:])
    network = as_network(model, text, text_mask, condition, fps=config.fps, height=height, width=width)
    (made,) = flow.sample(network, z, [start_timestep], x_mask=x_mask)
    return _loss(made, latents, vae, discriminator)


def _loss(
    made: Tensor, latents: Tensor, vae: VideoVAE, discriminator: PatchDiscriminator
) -> tuple[Tensor, dict[str, Tensor]]:
    """What a discriminator, and what makes latents, learn from those that it `made` and true ones (B, C, T, H, W).

    The value is no measure of either. The discriminator's loss is the hinge. What is made is pulled by its square
    error, by the discriminator's judgement of its pixels, and by the distance of their features from those of the
    latents' pixels (Wang et al., 2018); how hard, is told by the lengths of the three gradients. Windows come from
    torch's global random numbers. Metrics: `mse` relative to the latents' variance; `judged`, the mean judgement;
    `features`, their distance; `discriminator`, its loss, 2 at first.
    """
    leaf = made.detach().requires_grad_()
    corners = [_corner(latents) for _ in range(_WINDOWS)]
    seen = vae.decode(_windows(leaf, corners))
    with torch.no_grad():
        true = vae.decode(_windows(latents, corners))
    real, real_features = discriminator(true)
    fake, _ = discriminator(seen.detach())
    hinge = torch.stack([F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]).mean()

    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    judged, found = functional_call(discriminator, frozen, seen)
    judgement = torch.stack([part.mean() for part in judged]).mean()
    distance = torch.stack(
        [F.l1_loss(f, r.detach()) / r.detach().abs().mean() for f, r in zip(found, real_features, strict=True)]
    ).mean()
    mse = F.mse_loss(leaf, latents) / latents.var(dim=(0, 2, 3, 4)).mean()
    (pull,) = torch.autograd.grad(mse, leaf)
    strength = _PULL * pull.norm()
    for term in (-judgement, distance):
        (gradient,) = torch.autograd.grad(term, leaf, retain_graph=True)
        pull = pull + gradient * (strength / gradient.norm().clamp_min(1e-12))
    metrics = {"mse": mse, "judged": judgement, "features": distance, "discriminator": hinge}
    return hinge + (made * pull).sum(), {name: value.detach() for name, value in metrics.items()}


def _corner(latents: Tensor) -> list[int]:
    """Where a window (T, H, W) begins."""
    sizes = latents.shape[2:]
    return [int(torch.randint(max(1, size - part + 1), ())) for size, part in zip(sizes, _WINDOW, strict=True)]


def _windows(latents: Tensor, corners: list[list[int]]) -> Tensor:
    """Those of all samples, (B · windows, C, T, H, W)."""
    t, h, w = _WINDOW
    return torch.cat([latents[:, :, k : k + t, y : y + h, x : x + w] for k, y, x in corners])
