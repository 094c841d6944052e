"""The DiT as the sampler calls it: its text, F and video's size and rate are settled before."""

import torch
from torch import Tensor

from arlon_cli.models.stdit import STDiT3
from arlon_cli.sampling.rectified_flow import Network

_PLACES = 16  # texts take up multiples of these, so that compilers see few lengths


def as_network(
    dit: STDiT3,
    text: Tensor,
    text_mask: Tensor,
    condition: Tensor | None = None,
    *,
    fps: float,
    height: int,
    width: int,
    condition_mask: Tensor | None = None,
) -> Network:
    """The DiT as a function of (x_t, timestep, x_mask) that gives v alone, without what follows it with `pred_sigma`.

    text (B, L, C), text_mask (B, L), F (B, C, T, H, W) and condition_mask (B,), of the samples that F is for, are on
    the DiT's device, and B is that of x_t. `height` and `width` are in pixels. Places that no text of the batch fills
    are left out: they cost time and say nothing.
    """
    longest = int(text_mask.sum(dim=1).max())
    used = -(-longest // _PLACES) * _PLACES
    text, text_mask = text[:, :used], text_mask[:, :used]
    dtype, rate = dit.unconditional_text.dtype, torch.tensor([float(fps)], device=dit.unconditional_text.device)

    def network(x_t: Tensor, timestep: Tensor, x_mask: Tensor | None) -> Tensor:
        v = dit(
            x_t.to(dtype),
            timestep,
            text,
            text_mask=text_mask,
            x_mask=x_mask,
            condition=condition,
            condition_mask=condition_mask,
            fps=rate,
            height=height,
            width=width,
        )
        return v[:, : x_t.shape[1]]

    return network
