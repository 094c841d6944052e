"""Training the DiT with semantic injection (2.3): what it is given, what is hidden, and how its error is counted."""

from dataclasses import dataclass

import torch
from torch import Tensor

from arlon_cli.config import PIXELS_PER_LATENT
from arlon_cli.models.stdit import STDiT3
from arlon_cli.sampling.denoiser import as_network
from arlon_cli.sampling.rectified_flow import NUM_TIMESTEPS, RectifiedFlow

_BANDS = 4  # of timesteps, in the metrics


@dataclass(frozen=True)
class DiTTrainingConfig:
    """`logit_normal` draws timesteps around the middle, otherwise they are uniform; `shift` is RectifiedFlow's.

    With F, every second timestep is drawn below `start_timestep`: sampling from the codes begins there or later (4.4).
    `unmask_probability`: share of samples with frames given clean; `overlap`: how many first latent frames sampling
    gives, so that many are given most often. `text_dropout`: share of texts that become the unconditional one;
    `condition_dropout`: share of samples that get no F.
    """

    logit_normal: bool
    shift: float
    start_timestep: float
    unmask_probability: float
    overlap: int
    text_dropout: float
    condition_dropout: float
    fps: float


DIORAMA_DIT = DiTTrainingConfig(
    logit_normal=False,
    shift=1.0,
    start_timestep=600.0,
    unmask_probability=0.5,
    overlap=4,
    text_dropout=0.1,
    condition_dropout=0.15,
    fps=24.0,
)


def loss(
    model: STDiT3, latents: Tensor, text: Tensor, text_mask: Tensor, condition: Tensor, config: DiTTrainingConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Squared error of v (eq. 6) on latents (B, C, T, H, W), text (B, L, C) with its mask (B, L), and F like latents.

    Metrics: `loss`, and `loss_t0` to `loss_t750`, its mean over timesteps from there to 250 further on, where the batch
    has any. Random numbers: torch's global generator.
    """
    batch, device = len(latents), latents.device
    flow = RectifiedFlow(config.shift)
    share = torch.randn(batch).sigmoid() if config.logit_normal else torch.rand(batch)
    timestep = flow.transform(NUM_TIMESTEPS * share)
    guided = torch.rand(batch) >= config.condition_dropout
    late = guided & (torch.rand(batch) < 0.5)
    timestep = torch.where(late, timestep * (config.start_timestep / NUM_TIMESTEPS), timestep)
    x_mask = unmask(batch, latents.shape[2], config).to(device)
    dropped = (torch.rand(batch) < config.text_dropout).to(device)
    text = torch.where(dropped[:, None, None], model.unconditional_text.to(text.dtype), text)
    network = as_network(
        model,
        text,
        text_mask,
        condition,
        fps=config.fps,
        height=PIXELS_PER_LATENT * latents.shape[3],
        width=PIXELS_PER_LATENT * latents.shape[4],
        condition_mask=guided.to(device),
    )
    losses = flow.loss(network, latents, torch.randn_like(latents), timestep.to(device), x_mask)
    mean = losses.mean()
    metrics = {"loss": mean.detach()}
    band = (timestep * _BANDS / NUM_TIMESTEPS).long().clamp(max=_BANDS - 1)  # on the CPU: nothing waits for the device
    for index in band.unique().tolist():
        inside = (band == index).nonzero().flatten().to(device)
        metrics[f"loss_t{index * int(NUM_TIMESTEPS) // _BANDS}"] = losses.detach()[inside].mean()
    return mean, metrics


def unmask(batch: int, num_frames: int, config: DiTTrainingConfig) -> Tensor:
    """Frames to generate, (batch, num_frames) bool on the CPU: False where a frame is given clean; one stays at least.

    Of the samples with given frames, half have the first `overlap`, a quarter another number of first frames, which
    makes extension and image-to-video work, and a quarter frames anywhere.
    """
    x_mask = torch.ones(batch, num_frames, dtype=torch.bool)
    if num_frames == 1:
        return x_mask
    for row, draw in zip(x_mask, torch.rand(batch, 2).tolist(), strict=True):
        if draw[0] >= config.unmask_probability:
            continue
        count = int(torch.randint(1, num_frames, ()))
        if draw[1] < 0.5:
            row[: min(config.overlap, num_frames - 1)] = False
        elif draw[1] < 0.75:
            row[:count] = False
        else:
            row[torch.randperm(num_frames)[:count]] = False
    return x_mask
