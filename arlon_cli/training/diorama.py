"""The recipe of the embedded model: every part, trained in turn on the dioramas within one budget of minutes."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from arlon_cli.config import LatentVQVAEConfig, ModelConfig, TextEncoderConfig, VideoVAEConfig
from arlon_cli.dioramas import vocabulary
from arlon_cli.models.attribute_classifier import AttributeClassifier
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.text_encoder import TextEncoder, build_tokenizer
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.presets import DIORAMA
from arlon_cli.storage.checkpoint import save_checkpoint
from arlon_cli.training import adversarial, classifier, dit, text, vae, vqvae
from arlon_cli.training.budget import Budget
from arlon_cli.training.clips import (
    ClipKind,
    LatentClips,
    condition_batches,
    decode_clips,
    encode_clips,
    read_clips,
    write_clips,
)
from arlon_cli.training.data import caption_batch, pixel_batch
from arlon_cli.training.diorama_ar import CodedClips, train_drafts, train_ranker
from arlon_cli.training.loop import Interrupted
from arlon_cli.training.pictures import read_pictures, write_pictures
from arlon_cli.training.samples import Samples
from arlon_cli.training.stages import Run, Scale, scale_of

SHARES = {
    "text_encoder": 5,
    "video_vae": 12,
    "clips": 10,
    "starts": 12,
    "changes": 8,
    "latent_vqvae": 20,
    "latent_vqvae_coarse": 4,
    "decoder": 10,
    "ar": 34,
    "guidance": 8,
    "ranker": 4,
    "dit": 30,
    "pictures": 4,
    "classifier": 3,
}
_PATCH_SCENES = 160  # whose patches the video VAE starts from
_STATISTICS_SCENES = 64  # whose latents tell how far they spread
_DISCRIMINATOR_WIDTH = 32
_SHARPENED_CODES = 6  # code frames of a window at most
_SHARPNESS = 0.75  # 0 is the decoder that square errors taught, 1 the discriminator's
_FIRST_START, _FIRST_CHANGE, _FIRST_PICTURE = 300_000, 600_000, 800_000  # scenes follow those of whole clips by so many
_STATISTICS_CLIPS = 128  # whose latents tell the DiT how far F is from them


def train_diorama(
    folder: Path,
    *,
    minutes: float,
    device: torch.device,
    precision: torch.dtype,
    seed: int,
    on_event: Callable[[str], None],
    stop: Callable[[], bool] = lambda: False,
    config: ModelConfig = DIORAMA,
    scale: Scale | None = None,
) -> Path:
    """Train every part of the `diorama` preset and leave a checkpoint in `folder`/checkpoint, which is returned.

    `scale` is by default that of the device.
    Stages that an earlier call finished are kept, one that it was stopped in goes on. Raises Interrupted after
    `stop()` turned true and the state was saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(
        folder=folder,
        config=config,
        scale=scale or scale_of(device),
        device=device,
        precision=precision,
        seed=seed,
        budget=Budget(folder / "budget.json", minutes, SHARES),
        on_event=on_event,
        stop=stop,
    )
    text_encoder = train_text_encoder(run)
    video_vae = train_video_vae(run)
    samples = Samples(folder / "samples", run.config, video_vae)
    samples.reconstructions()
    scale = run.scale
    clips = make_clips(run, "clips", video_vae, scale.clips, scale.most_clips, first=0)
    starts = make_clips(run, "starts", video_vae, scale.starts, scale.most_starts, first=_FIRST_START)
    changes = make_clips(run, "changes", video_vae, scale.changes, scale.most_changes, first=_FIRST_CHANGE)
    sources = (clips, starts, clips, changes)
    fine = train_latent_vqvae(run, "latent_vqvae", run.config.latent_vqvae, sources)
    samples.conditions("latent_vqvae", fine)
    coarse = train_latent_vqvae(run, "latent_vqvae_coarse", run.config.latent_vqvae_coarse, sources)
    samples.conditions("latent_vqvae_coarse", coarse)
    coded = [(source, encode_clips(fine, source.latents)) for source in (clips, starts, changes)]
    sharpen_decoder(run, fine, video_vae, coded)
    samples.conditions("decoder", fine)
    transformer = train_drafts(run, text_encoder, *coded)
    ranker = train_ranker(run, text_encoder, fine, coded)
    samples.drafts(text_encoder, transformer, fine)
    stdit = train_dit(run, (coarse, fine), text_encoder, clips)
    samples.videos(text_encoder, transformer, fine, stdit)
    parts = {
        "text_encoder": text_encoder,
        "video_vae": video_vae,
        "latent_vqvae": fine,
        "latent_vqvae_coarse": coarse,
        "ar": transformer,
        "ranker": ranker,
        "dit": stdit,
        "classifier": train_classifier(run),
    }
    checkpoint = folder / "checkpoint"
    save_checkpoint(checkpoint, run.config, parts, torch.bfloat16)
    on_event(f"checkpoint: {checkpoint}")
    return checkpoint


def train_text_encoder(run: Run) -> TextEncoder:
    """Captions to what they tell of a scene: paraphrases meet before anything else is learnt from them."""
    torch.manual_seed(run.seed)
    assert isinstance(run.config.text_encoder, TextEncoderConfig)
    text_encoder = TextEncoder(run.config.text_encoder, build_tokenizer(vocabulary(), run.config.text_encoder))
    model = text.CaptionReader(text_encoder).to(run.device)

    def batch_at(step: int) -> tuple[list[str], Tensor]:
        return caption_batch(run.scale.captions, run.seed, step, run.device)

    run.fit("text_encoder", model, batch_at, lambda batch: text.loss(model, batch[0], batch[1]), learning_rate=1e-3)
    return text_encoder


def train_video_vae(run: Run) -> VideoVAE:
    """Pixels to latents and back, from crops that are painted as they are needed."""
    torch.manual_seed(run.seed)
    assert isinstance(run.config.video_vae, VideoVAEConfig)
    model = VideoVAE(run.config.video_vae).to(run.device)

    def batch_at(step: int) -> Tensor:
        return pixel_batch(run.scale.crops, run.seed, step, run.device)

    if not run.begun("video_vae"):
        scenes = run.scale.crops.scenes
        model.init_from_patches(torch.cat([batch_at(-i) for i in range(1, _PATCH_SCENES // scenes + 1)]))
    run.fit(
        "video_vae",
        model,
        batch_at,
        lambda pixels: vae.vae_loss(model, pixels, vae.DIORAMA_VAE),
        learning_rate=4e-4,
    )
    batches = _STATISTICS_SCENES // run.scale.crops.scenes
    model.set_statistics(*vae.latent_statistics(model, (batch_at(-i) for i in range(1, batches + 1))))
    return model


def make_clips(run: Run, stage: str, video_vae: VideoVAE, kind: ClipKind, most: int, first: int) -> LatentClips:
    """Clips of a kind, painted and encoded once: what all later parts learn from."""
    folder = run.folder / stage
    if not run.begun("latent_vqvae"):
        with run.budget.stage(stage):
            write_clips(
                video_vae,
                folder,
                kind,
                image_size=run.config.height,
                first=run.seed * 1_000_003 + first,
                seconds=run.budget.allowance(stage),
                most=most,
                device=run.device,
                precision=run.precision,
                stop=run.stop,
            )
    if run.stop():
        raise Interrupted
    clips = read_clips(folder, kind, run.device)
    run.on_event(f"{stage}: {len(clips.scenes)} of {kind.length} frames")
    return clips


def train_latent_vqvae(run: Run, stage: str, config: LatentVQVAEConfig, sources: Sequence[LatentClips]) -> LatentVQVAE:
    """Latents to codes and back to a condition (2.1), from each of the sources in turn.

    Whole clips are few, and learnt by heart: shorter ones show what other scenes look like.
    """
    torch.manual_seed(run.seed)
    model = LatentVQVAE(config).to(run.device)
    most = vqvae.DIORAMA_VQVAE.num_latents

    def batch_at(step: int) -> Tensor:
        draw = random.Random(f"{run.seed} {stage} {step}")
        latents = sources[step % len(sources)].latents
        length = min(most, latents.shape[2])
        windows = []
        for _ in range(run.scale.vqvae_clips * most // length):  # as many latents from each source
            start = config.ratio[0] * draw.randint(0, (latents.shape[2] - length) // config.ratio[0])
            windows.append(latents[draw.randrange(len(latents)), :, start : start + length])
        return torch.stack(windows).float()

    training = vqvae.VQVAETraining(model, vqvae.DIORAMA_VQVAE, batch_at)

    def after_step(step: int) -> None:
        autoencoder_steps = run.budget.steps[stage] // 4
        training.settings = replace(training.settings, autoencoder_steps=autoencoder_steps)
        training.after_step(step)

    run.fit(
        stage,
        model,
        batch_at,
        training.loss,
        learning_rate=5e-4,
        after_step=after_step,
        extra=training.codebook.state_dict,
        load_extra=training.codebook.load_state_dict,
    )
    return model


def sharpen_decoder(run: Run, vqvae: LatentVQVAE, video_vae: VideoVAE, sources: Sequence[CodedClips]) -> None:
    """Codes to a condition that looks like latents; the codes stay as they are.

    Edges come with specks, so the decoder stops on the way from what it was to what the discriminator made of it, as
    ESRGAN does (Wang et al., 2018).
    """
    torch.manual_seed(run.seed)
    discriminator = adversarial.PatchDiscriminator(_DISCRIMINATOR_WIDTH)
    model = nn.ModuleDict({"decoder": vqvae.decoder, "discriminator": discriminator}).to(run.device)
    model.requires_grad_(True)
    soft = {name: value.clone() for name, value in vqvae.decoder.state_dict().items()}
    ratio = vqvae.config.ratio[0]

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
        lambda batch: adversarial.loss(vqvae, video_vae, discriminator, batch[0], batch[1]),
        learning_rate=4e-4,
        betas=(0.5, 0.95),
    )
    for name, value in vqvae.decoder.state_dict().items():
        value.copy_(soft[name].lerp(value, _SHARPNESS))


def train_dit(run: Run, vqvaes: Sequence[LatentVQVAE], text_encoder: TextEncoder, clips: LatentClips) -> STDiT3:
    """Latents from noise, text and the condition of codes (2.2, 2.3).

    The paper trains on the coarser codes alone. Here a batch has those of any of `vqvaes`: in so short a training, the
    coarser alone teach too little of what a drafted detail looks like.
    """
    torch.manual_seed(run.seed)
    model = STDiT3(run.config.dit, run.config.injection).to(run.device)
    conditions = [decode_clips(vqvae, encode_clips(vqvae, clips.latents)) for vqvae in vqvaes]
    if model.linear_estimate is not None:
        few = slice(_STATISTICS_CLIPS)
        model.linear_estimate.set_statistics(
            torch.cat([clips.latents[few]] * len(conditions)), torch.cat([condition[few] for condition in conditions])
        )
    batch_at = condition_batches(
        clips, conditions, text_encoder, run.config.segments, frames=run.scale.dit_frames, seed=run.seed
    )
    run.fit(
        "dit",
        model,
        batch_at,
        lambda batch: dit.loss(model, batch[0], batch[1], batch[2], batch[3], dit.DIORAMA_DIT),
        learning_rate=8e-4,
        weight_decay=0.01,
    )
    return model


def make_pictures(run: Run) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, H, W) uint8 with the values (N, A) of what is visible in them, painted once."""
    folder = run.folder / "pictures"
    if not run.begun("classifier"):
        with run.budget.stage("pictures"):
            write_pictures(
                folder,
                image_size=run.config.height,
                first=run.seed * 1_000_003 + _FIRST_PICTURE,
                seconds=run.budget.allowance("pictures"),
                most=run.scale.most_pictures,
                stop=run.stop,
            )
    if run.stop():
        raise Interrupted
    return read_pictures(folder, classifier.VISIBLE)


def train_classifier(run: Run) -> AttributeClassifier:
    """The reader of frames that measures how well a video shows its prompt."""
    torch.manual_seed(run.seed)
    model = AttributeClassifier(classifier.VISIBLE).to(run.device)
    if run.finished("classifier") is None:
        pictures, values = make_pictures(run)

    def batch_at(step: int) -> tuple[Tensor, Tensor]:
        draw = random.Random(f"{run.seed} pictures {step}")
        chosen = torch.tensor([draw.randrange(len(values)) for _ in range(run.scale.pictures)])
        return pictures[chosen].to(run.device) / 127.5 - 1, values[chosen].to(run.device)

    run.fit(
        "classifier",
        model,
        batch_at,
        lambda batch: classifier.loss(model, batch[0], batch[1]),
        learning_rate=2e-3,
        weight_decay=0.01,
    )
    return model
