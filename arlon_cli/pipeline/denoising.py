"""The steps of segments: from noise and F to latents."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arlon_cli.config import PIXELS_PER_LATENT, ModelConfig
from arlon_cli.models.stdit import STDiT3
from arlon_cli.pipeline.segments import Job, derived_seed
from arlon_cli.sampling.denoiser import as_network
from arlon_cli.sampling.rectified_flow import NUM_TIMESTEPS, Network, RectifiedFlow
from arlon_cli.sampling.reuse import Reuse


@dataclass(frozen=True, eq=False)
class Request:
    """A segment to denoise, under text features (L, C) and their mask (L,), from F (1, C, T, H, W) where there is one.

    Its overlap is the last of `given` (1, C, T, H, W), at least as many latents, and stays as it is.
    """

    job: Job
    text: tuple[Tensor, Tensor]
    condition: Tensor | None
    given: Tensor | None


def denoise(dit: STDiT3, config: ModelConfig, requests: Sequence[Request]) -> Iterator[Tensor]:
    """The latents (N, C, T, H, W) of N whole segments after each step, on the DiT's device.

    A pass of the DiT is over all of them; `pass_of` says of which jobs that can be.
    """
    job, device = requests[0].job, dit.unconditional_text.device
    length = job.segment.end - job.segment.start
    noise = torch.cat([_noise(config, request.job)[:, :, :length] for request in requests]).to(device)
    condition = None
    if requests[0].condition is not None:
        condition = torch.cat([request.condition for request in requests if request.condition is not None])
    start = NUM_TIMESTEPS if condition is None else config.sampling.start_timestep
    flow = RectifiedFlow()
    if config.sampling.timestep_transform:
        flow = RectifiedFlow.for_video(config.height, config.width, config.video_vae.chunk.frames(length))
    z = flow.initial(noise, condition, start).contiguous()  # to compilers, all segments look alike
    overlaps = torch.tensor([request.job.segment.overlap for request in requests], device=device)
    for row, request in zip(z, requests, strict=True):
        if (overlap := request.job.segment.overlap) and request.given is not None:
            row[:, :overlap] = request.given[0, :, request.given.shape[2] - overlap :].to(row)
    x_mask = torch.arange(length, device=device) >= overlaps[:, None]
    network = _network(dit, config, [request.text for request in requests], condition, job.guidance_scale)
    return flow.sample(
        Reuse(network, job.reuse) if job.reuse else network,
        z,
        flow.timesteps(job.num_steps, start),
        guidance_scale=job.guidance_scale,
        x_mask=x_mask,
    )


def pass_of(job: Job) -> Hashable:
    """Segments of jobs that have this in common can share passes, if all have codes or none has.

    When velocities are reused hangs on all that is in a pass: segments that do so are denoised alone.
    """
    length = job.segment.end - job.segment.start
    return length, job.num_steps, job.guidance_scale, job.latents_key if job.reuse else None


def _network(
    dit: STDiT3,
    config: ModelConfig,
    texts: Sequence[tuple[Tensor, Tensor]],
    condition: Tensor | None,
    guidance_scale: float,
) -> Network:
    """The DiT as a function of (x_t, timestep, x_mask); with guidance, its second half sees no prompt."""
    unconditional = dit.unconditional_text
    features = torch.stack([features.to(unconditional) for features, _ in texts])
    mask = torch.stack([mask.to(unconditional.device) for _, mask in texts])
    if guidance_scale != 1.0:
        features = torch.cat([features, unconditional.expand_as(features)])
        mask = torch.cat([mask, mask])  # as in training
        condition = None if condition is None else torch.cat([condition, condition])
    return as_network(dit, features, mask, condition, fps=config.fps, height=config.height, width=config.width)


def _noise(config: ModelConfig, job: Job) -> Tensor:
    draw = rescheduled_noise if job.reschedule_noise else segment_noise
    return draw(config, job.noise_seed, job.segment.index)


def segment_noise(config: ModelConfig, seed: int, index: int) -> Tensor:
    """Noise (1, C, T, H, W) of a full segment: on every device the same for (seed, index)."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "segment", index))
    sides = (config.height // PIXELS_PER_LATENT, config.width // PIXELS_PER_LATENT)
    return torch.randn((1, config.dit.in_channels, config.segments.num_latents, *sides), generator=generator)


def rescheduled_noise(config: ModelConfig, seed: int, index: int) -> Tensor:
    """Noise (1, C, T, H, W) of a segment as FreeNoise draws it (Qiu et al., 2024), from the first segment's alone.

    The new latents of each later segment take that of as many latents from the one before it, in another order.
    """
    noise = segment_noise(config, seed, 0)
    stride = config.segments.num_latents - config.segments.overlap
    for number in range(1, index + 1):
        generator = torch.Generator().manual_seed(derived_seed(seed, "reschedule", number))
        noise = torch.cat([noise, noise[:, :, :stride][:, :, torch.randperm(stride, generator=generator)]], dim=2)
        noise = noise[:, :, stride:]
    return noise
