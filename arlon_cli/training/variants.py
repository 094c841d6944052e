"""Variants of semantic injection for Table 3, each trained for a few steps around one and the same DiT."""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import torch

from arlon_cli.config import SemanticInjectionConfig
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.storage.checkpoint import Checkpoint, replace_part
from arlon_cli.storage.store import artifact_key
from arlon_cli.training import dit
from arlon_cli.training.clips import LatentClips, condition_batches, decode_clips, encode_clips, read_clips, write_clips
from arlon_cli.training.loop import Interrupted, LoopSettings, train
from arlon_cli.training.stages import Scale, scale_of

_CLIPS = 64
_LEARNING_RATE = 8e-4  # as a whole DiT learns
_SETTINGS = replace(dit.DIORAMA_DIT, condition_dropout=0.0)  # without F, nothing that learns takes part


def train_variant(
    checkpoint: Checkpoint,
    folder: Path,
    injection: SemanticInjectionConfig,
    codes: str,
    *,
    num_steps: int,
    seed: int,
    device: torch.device,
    precision: torch.dtype,
    on_event: Callable[[str], None],
    stop: Callable[[], bool] = lambda: False,
    scale: Scale | None = None,
) -> Path:
    """Train another injection around the DiT of a checkpoint of dioramas; returns the checkpoint that has it.

    All variants start as the DiT without its own injection and see the same clips in the same order, with F of the
    codes of the part `codes`. As in the paper, the injection alone learns. Clips and variants are kept in `folder`: one
    that is done is found again, one that was stopped or killed goes on. Raises Interrupted after `stop()` turned true
    and the state was saved.
    """
    scale = scale or scale_of(device)
    about = {"seed": seed, "scale": asdict(scale), "clips": _CLIPS}
    run = folder / artifact_key(
        kind="variant",
        model=checkpoint.digest,
        injection=asdict(injection),
        codes=codes,
        steps=num_steps,
        precision=str(precision),
        **about,
    )
    target = run / "checkpoint"
    if target.exists():
        return target
    place = folder / artifact_key(kind="clips", vae=checkpoint.part_digest("video_vae"), **about)
    clips = _clips(checkpoint, place, scale, seed, device, precision, stop)
    vqvae = cast(LatentVQVAE, checkpoint.load(codes, device, torch.float32))
    text_encoder = cast(TextEncoder, checkpoint.load("text_encoder", device, torch.float32))
    condition = decode_clips(vqvae, encode_clips(vqvae, clips.latents))
    model = with_injection(checkpoint, injection, seed).to(device)
    trained = train(
        model,
        condition_batches(
            clips, [condition], text_encoder, checkpoint.config.segments, frames=scale.dit_frames, seed=seed
        ),
        lambda batch: dit.loss(model, batch[0], batch[1], batch[2], batch[3], _SETTINGS),
        LoopSettings.usual(_LEARNING_RATE, 0.0, num_steps, seed),
        num_steps=num_steps,
        folder=run,
        precision=precision,
        on_step=lambda step, metrics: on_event(f"step {step} of {num_steps}: loss {metrics['loss']:.4g}"),
        stop=stop,
    )
    if trained is None:
        raise Interrupted
    replace_part(target, checkpoint, "dit", trained.weights, torch.bfloat16, injection)
    return target


def with_injection(checkpoint: Checkpoint, injection: SemanticInjectionConfig, seed: int) -> STDiT3:
    """The DiT of a checkpoint with new adapters, which change nothing yet, and which alone learn."""
    model = cast(STDiT3, checkpoint.load("dit", "cpu", torch.float32))
    estimate = model.linear_estimate  # what the rest of the DiT was trained to correct
    torch.manual_seed(seed)
    model.inject(injection)
    model.linear_estimate = estimate
    assert model.injection is not None
    model.injection.requires_grad_(True)  # copies of frozen layers, too
    return model


def _clips(
    checkpoint: Checkpoint,
    folder: Path,
    scale: Scale,
    seed: int,
    device: torch.device,
    precision: torch.dtype,
    stop: Callable[[], bool],
) -> LatentClips:
    """Clips of dioramas, painted and encoded once."""
    write_clips(
        cast(VideoVAE, checkpoint.load("video_vae", device, torch.float32)),
        folder,
        scale.clips,
        image_size=checkpoint.config.height,
        first=seed * 1_000_003,
        seconds=math.inf,
        most=min(_CLIPS, scale.most_clips),
        device=device,
        precision=precision,
        stop=stop,
    )
    if stop():
        raise Interrupted
    return read_clips(folder, scale.clips, device)
