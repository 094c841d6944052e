"""The DiT as the sampler calls it: its text, F and video's size and rate are settled before."""

import torch
from torch import Tensor

from arlon_cli.config import ModelConfig
from arlon_cli.models.stdit import STDiT3
from arlon_cli.sampling.rectified_flow import Network


def as_network(
    dit: STDiT3, config: ModelConfig, text: Tensor, text_mask: Tensor, condition: Tensor | None = None
) -> Network:
    """The DiT as a function of (x_t, timestep, x_mask) that gives v alone.

    text (B, L, C), text_mask (B, L) and F (B, C, T, H, W) are on the DiT's device, and B is that of x_t. Size and rate
    are those of `config`.
    """
    device, dtype = dit.unconditional_text.device, dit.unconditional_text.dtype
    fps, height, width = (
        torch.tensor([float(value)], device=device) for value in (config.fps, config.height, config.width)
    )

    def network(x_t: Tensor, timestep: Tensor, x_mask: Tensor | None) -> Tensor:
        v = dit(
            x_t.to(dtype),
            timestep,
            text,
            fps=fps,
            height=height,
            width=width,
            text_mask=text_mask,
            x_mask=x_mask,
            condition=condition,
        )
        return v[:, : x_t.shape[1]]

    return network
