"""The steps of a segment: from noise and F to latents."""

from collections.abc import Iterator

import torch
from torch import Tensor

from arlon_cli.config import PIXELS_PER_LATENT, ModelConfig
from arlon_cli.models.stdit import STDiT3
from arlon_cli.pipeline.segments import Job, derived_seed
from arlon_cli.sampling.denoiser import as_network
from arlon_cli.sampling.rectified_flow import NUM_TIMESTEPS, Network, RectifiedFlow
from arlon_cli.sampling.reuse import Reuse


def denoise(
    dit: STDiT3,
    config: ModelConfig,
    job: Job,
    text: tuple[Tensor, Tensor],
    condition: Tensor | None,
    given: Tensor | None,
) -> Iterator[Tensor]:
    """The latents (1, C, T, H, W) of the whole segment after each step, on the DiT's device.

    `text` is features (L, C) and mask (L,), `condition` is F (1, C, T, H, W). The overlap is the last of `given`, at
    least as many latents, and stays as it is.
    """
    segment, device = job.segment, dit.unconditional_text.device
    length = segment.end - segment.start
    draw_noise = rescheduled_noise if job.reschedule_noise else segment_noise
    noise = draw_noise(config, job.noise_seed, segment.index)[:, :, :length].to(device)
    start = NUM_TIMESTEPS if condition is None else config.sampling.start_timestep
    flow = RectifiedFlow()
    if config.sampling.timestep_transform:
        flow = RectifiedFlow.for_video(config.height, config.width, config.video_vae.chunk.frames(length))
    z = flow.initial(noise, condition, start).contiguous()  # to compilers, all segments look alike
    if given is not None and segment.overlap:
        z = torch.cat([given[:, :, given.shape[2] - segment.overlap :].to(z), z[:, :, segment.overlap :]], dim=2)
    x_mask = (torch.arange(length, device=device) >= segment.overlap)[None]
    network = _network(dit, config, text, condition, job.guidance_scale)
    return flow.sample(
        Reuse(network, job.reuse) if job.reuse else network,
        z,
        flow.timesteps(job.num_steps, start),
        guidance_scale=job.guidance_scale,
        x_mask=x_mask,
    )


def _network(
    dit: STDiT3,
    config: ModelConfig,
    text: tuple[Tensor, Tensor],
    condition: Tensor | None,
    guidance_scale: float,
) -> Network:
    """The DiT as a function of (x_t, timestep, x_mask); with guidance, its second half sees no prompt."""
    unconditional = dit.unconditional_text[None]
    features, mask = text[0][None].to(unconditional), text[1][None].to(unconditional.device)
    if guidance_scale != 1.0:
        features = torch.cat([features, unconditional])
        mask = torch.cat([mask, mask])  # as in training
        condition = None if condition is None else torch.cat([condition, condition])
    return as_network(dit, features, mask, condition, fps=config.fps, height=config.height, width=config.width)


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
