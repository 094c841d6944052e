"""The latent VQ-VAE's decoder against a discriminator, so that F is as sharp as latents are, not their blurred mean.

An addition of ours, as VQGAN (Esser et al., 2021) added it to VQ-VAE: the codes stay as they are.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from arlon_cli.models.latent_vqvae import LatentVQVAE

_KERNELS = ((1, 3, 3), (3, 3, 3), (3, 4, 4), (3, 4, 4))
_STRIDES = ((1, 1, 1), (1, 1, 1), (1, 2, 2), (2, 2, 2))


class PatchDiscriminator(nn.Module):
    """Says of latents (B, C, T, H, W) how real each place looks, at three sizes of what it sees of them."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = (channels, width, width, 2 * width, 2 * width)
        self.convolutions = nn.ModuleList(
            nn.Conv3d(widths[i], widths[i + 1], kernel, stride, padding=(kernel[0] // 2, 1, 1))
            for i, (kernel, stride) in enumerate(zip(_KERNELS, _STRIDES, strict=True))
        )
        self.heads = nn.ModuleList(nn.Conv3d(size, 1, 1) for size in widths[2:])

    def forward(self, latents: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """For each size: how real, higher is more so, and the features that it was read from."""
        x, judged, features = latents, [], []
        for index, convolution in enumerate(self.convolutions):
            x = F.leaky_relu(convolution(x), 0.2)
            if index > 0:
                features.append(x)
                judged.append(self.heads[index - 1](x))
        return judged, features


def loss(
    vqvae: LatentVQVAE, discriminator: PatchDiscriminator, latents: Tensor, codes: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """What both learn from latents (B, C, T, H, W) and their codes (B, t, h, w); its value is no measure of either.

    The discriminator's loss is the hinge. F is pulled by its square error, by the discriminator's judgement and by the
    distance of its features (Wang et al., 2018), all three equally hard. Metrics: `mse` of F relative to the latents'
    variance; `judged`, the mean judgement of F; `features`, their distance; `discriminator`, its loss, 2 at first.
    """
    condition = vqvae.decode(codes)[:, :, : latents.shape[2]].float()
    real, real_features = discriminator(latents)
    fake, _ = discriminator(condition.detach())
    hinge = torch.stack([F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]).mean()

    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    leaf = condition.detach().requires_grad_()
    judged, found = functional_call(discriminator, frozen, leaf)
    judgement = torch.stack([part.mean() for part in judged]).mean()
    distance = torch.stack(
        [F.l1_loss(f, r.detach()) / r.detach().abs().mean() for f, r in zip(found, real_features, strict=True)]
    ).mean()
    mse = F.mse_loss(leaf, latents) / latents.var(dim=(0, 2, 3, 4)).mean()
    pulls = [torch.autograd.grad(term, leaf, retain_graph=True)[0] for term in (mse, -judgement, distance)]
    strength = pulls[0].norm()
    pull = sum((p * (strength / p.norm().clamp_min(1e-12)) for p in pulls), torch.zeros_like(leaf))
    metrics = {"mse": mse, "judged": judgement, "features": distance, "discriminator": hinge}
    return hinge + (condition * pull).sum(), {name: value.detach() for name, value in metrics.items()}
