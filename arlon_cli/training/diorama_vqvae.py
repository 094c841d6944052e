"""The recipe's latent VQ-VAEs: latents to codes and back, and a decoder that draws edges."""

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from arlon_cli.config import LatentVQVAEConfig
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.training import adversarial, vqvae
from arlon_cli.training.clips import CodedClips, LatentClips
from arlon_cli.training.stages import Run
from arlon_cli.training.visibility import visibility

_LEARNING_RATE, _MATRIX_RATE = 2e-3, 3e-3  # Muon in many small steps learns fastest
_DISCRIMINATOR_WIDTH = 32
_SHARPENED_CODES = 6  # code frames of a window at most
_SHARPNESS = 0.75  # 0 is the decoder that square errors taught, 1 the discriminator's


def train_latent_vqvae(
    run: Run, stage: str, config: LatentVQVAEConfig, video_vae: VideoVAE, clips: Mapping[str, LatentClips]
) -> LatentVQVAE:
    """Latents to codes and back to a condition (2.1), from clips of each kind in turn.

    Whole clips are few, and learnt by heart: shorter ones show what other scenes look like, most of all. Of one that
    learns on, the codes are known, so its decoder alone does, but for a run with new codes.
    """
    if not run.learns(stage):
        return cast(LatentVQVAE, run.kept(stage))
    model = run.begin(stage, lambda: LatentVQVAE(config))
    sources = [clips[kind] for kind in ("starts", "changes", "starts", "clips")]
    most = vqvae.DIORAMA_VQVAE.num_latents
    visible = visibility(video_vae)

    def batch_at(step: int) -> Tensor:
        draw = random.Random(f"{run.seed} {stage} {step}")
        latents = sources[step % len(sources)].latents
        length = min(most, latents.shape[2])
        windows = []
        for _ in range(run.scale.vqvae_clips * most // length):  # as many latents from each source
            start = config.ratio[0] * draw.randint(0, (latents.shape[2] - length) // config.ratio[0])
            windows.append(latents[draw.randrange(len(latents)), :, start : start + length])
        return torch.stack(windows).float()

    if run.goes_on(stage) and not run.new_codes:
        model.requires_grad_(False)
        model.decoder.requires_grad_(True)
        run.fit(
            stage,
            model,
            batch_at,
            lambda latents: vqvae.decoder_loss(model, latents, visible),
            learning_rate=run.rate(stage, _LEARNING_RATE),
            matrix_rate=run.rate(stage, _MATRIX_RATE),
        )
        return model

    training = vqvae.VQVAETraining(model, vqvae.DIORAMA_VQVAE, batch_at, visible=visible)
    if run.goes_on(stage):
        training.codebook.adopt(batch_at(0)[:, 0].numel() // math.prod(config.ratio))

    def after_step(step: int) -> None:
        autoencoder_steps = run.budget.steps[stage] // 4
        training.settings = replace(training.settings, autoencoder_steps=autoencoder_steps)
        training.after_step(step)

    run.fit(
        stage,
        model,
        batch_at,
        training.loss,
        learning_rate=run.rate(stage, _LEARNING_RATE),
        matrix_rate=run.rate(stage, _MATRIX_RATE),
        after_step=after_step,
        after_trial=training.forget,
        extra=training.codebook.state_dict,
        load_extra=training.codebook.load_state_dict,
    )
    return model


def sharpen_decoder(run: Run, vqvae: LatentVQVAE, video_vae: VideoVAE, coded: Mapping[str, CodedClips]) -> None:
    """Codes to a condition that looks like latents; the codes stay as they are.

    Edges come with specks, so the decoder stops on the way from what it was to what the discriminator made of it, as
    ESRGAN does (Wang et al., 2018).
    """
    if not run.learns("latent_vqvae"):
        return
    sources = [coded[kind] for kind in ("clips", "starts", "changes")]
    torch.manual_seed(run.seed)
    discriminator = adversarial.PatchDiscriminator(_DISCRIMINATOR_WIDTH)
    model = nn.ModuleDict({"decoder": vqvae.decoder, "discriminator": discriminator}).to(run.device)
    model.requires_grad_(True)
    soft = {name: value.clone() for name, value in vqvae.decoder.state_dict().items()}
    ratio, visible = vqvae.config.ratio[0], visibility(video_vae)

    def batch_at(step: int) -> tuple[Tensor, Tensor]:
        draw = random.Random(f"{run.seed} decoder {step}")
        clips, codes = sources[step % len(sources)]
        length = min(_SHARPENED_CODES, codes.shape[1])
        latents, windows = [], []
        for _ in range(max(2, run.scale.vqvae_clips // 3) * _SHARPENED_CODES // length):
            clip, start = draw.randrange(len(codes)), draw.randint(0, codes.shape[1] - length)
            windows.append(codes[clip, start : start + length])
            latents.append(clips.latents[clip, :, ratio * start : ratio * (start + length)])
        return torch.stack(latents).float(), torch.stack(windows)

    run.fit(
        "decoder",
        model,
        batch_at,
        lambda batch: adversarial.loss(vqvae, video_vae, discriminator, batch[0], batch[1], visible),
        learning_rate=4e-4,
        betas=(0.5, 0.95),
    )
    for name, value in vqvae.decoder.state_dict().items():
        value.copy_(soft[name].lerp(value, _SHARPNESS))
