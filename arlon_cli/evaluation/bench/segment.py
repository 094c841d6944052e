"""A segment as the sum of its stages, for models that are not there as a whole."""

from collections.abc import Sequence
from typing import Any

from arlon_cli.config import ModelConfig
from arlon_cli.evaluation.bench.stages import Stage


def segment_numbers(stages: Sequence[Stage], config: ModelConfig) -> dict[str, Any] | None:
    """A video of one segment as the sum of its stages, which nothing overlaps; None where one of them is missing."""
    seconds = {stage.name: stage.seconds.median / stage.count for stage in stages}
    if not {"AR Transformer", "latent VQ-VAE", "DiT", "video VAE", "writer"} <= seconds.keys():
        return None
    code_frames = -(-config.segments.num_latents // config.latent_vqvae.ratio[0])
    num_codes = code_frames * config.ar.code_height * config.ar.code_width
    num_frames = config.video_vae.chunk.frames(config.segments.num_latents)
    total = num_codes * (seconds["AR Transformer"] + seconds["latent VQ-VAE"])
    total += config.sampling.num_steps * seconds["DiT"] + num_frames * (seconds["video VAE"] + seconds["writer"])
    return {
        "num_frames": num_frames,
        "num_steps": config.sampling.num_steps,
        "seconds": total,
        "frames_per_second": num_frames / total,
    }
