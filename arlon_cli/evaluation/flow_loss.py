"""The error of a DiT's v on held-out clips, told of them by their own codes, by drafted ones, or by none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from arlon_cli.config import ModelConfig
from arlon_cli.evaluation.heldout import held_out_clip
from arlon_cli.evaluation.prompts import HeldOut
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.sampling.autoregressive import Span, draft
from arlon_cli.sampling.denoiser import as_network
from arlon_cli.sampling.rectified_flow import RectifiedFlow
from arlon_cli.storage.checkpoint import Checkpoint

_TIMESTEPS = (100.0, 300.0, 500.0, 700.0, 900.0)


@dataclass(frozen=True, eq=False)
class Case:
    """A held-out clip of a segment's length: latents (1, C, T, H, W), its caption as text (1, L, C) and text_mask
    (1, L), and F like the latents, of its `own` codes, and of codes `drafted` behind the first frame of these."""

    latents: Tensor
    text: Tensor
    text_mask: Tensor
    own: Tensor
    drafted: Tensor


@torch.inference_mode()
def flow_cases(
    checkpoint: Checkpoint, items: Sequence[HeldOut], seed: int, device: torch.device, dtype: torch.dtype
) -> list[Case]:
    """The cases of held-out scenes, with the codes and drafts of a checkpoint's finer latent VQ-VAE."""
    config, sampling = checkpoint.config, checkpoint.config.sampling
    vae = cast(VideoVAE, checkpoint.load("video_vae", device, dtype))
    vqvae = cast(LatentVQVAE, checkpoint.load("latent_vqvae", device, dtype))
    text_encoder = cast(TextEncoder, checkpoint.load("text_encoder", device, dtype))
    ar = cast(ARTransformer, checkpoint.load("ar", device, dtype))
    length = config.segments.num_latents
    cases = []
    for index, item in enumerate(items):
        latents = vae.encode(
            held_out_clip(item, config.video_vae.chunk.frames(length), config.height, device).to(dtype)
        )
        codes = vqvae.encode(latents)[0]
        text, text_mask = text_encoder.encode([item.prompt, ""])
        frames = draft(
            ar,
            [Span(text[0], text_mask[0], len(codes) - 1)],
            seed=seed + index,
            temperature=sampling.ar_temperature,
            top_k=sampling.ar_top_k,
            guidance_scale=sampling.ar_guidance_scale,
            null=(text[1], text_mask[1]),
            prefix=codes[:1],
            start_frame=1,
        )
        drafted = torch.stack([codes[0], *frames])
        own, other = (vqvae.decode(some[None])[:, :, :length] for some in (codes, drafted))
        cases.append(Case(latents, text[:1], text_mask[:1], own, other))
    return cases


@torch.inference_mode()
def flow_loss(
    dit: STDiT3, config: ModelConfig, cases: Sequence[Case], condition_of: Callable[[Case], Tensor | None]
) -> float:
    """The mean squared error of v (eq. 6) over the cases and timesteps from 100 to 900, with the F that is asked for.

    The noise of a case is always the same.
    """
    timestep = torch.tensor(_TIMESTEPS, device=dit.unconditional_text.device)
    losses = []
    for index, case in enumerate(cases):
        x_0 = case.latents.float().expand(len(timestep), -1, -1, -1, -1)
        noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(index)).to(x_0)
        text, text_mask = case.text.expand(len(timestep), -1, -1), case.text_mask.expand(len(timestep), -1)
        condition = condition_of(case)
        if condition is not None:
            condition = condition.expand(len(timestep), -1, -1, -1, -1)
        network = as_network(dit, text, text_mask, condition, fps=config.fps, height=config.height, width=config.width)
        losses.append(RectifiedFlow().loss(network, x_0, noise, timestep).mean())
    return float(torch.stack(losses).mean())
