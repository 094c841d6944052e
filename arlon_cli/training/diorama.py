"""The recipe of the embedded model: every part, trained in turn on the dioramas within one budget of minutes.

A model that exists is trained on in all of its parts or in some. What its other parts know stays: the video VAE is held
where its latents were, and of a latent VQ-VAE the decoder alone learns, unless what reads its codes is to learn others.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from arlon_cli.config import ModelConfig, TextEncoderConfig, VideoVAEConfig
from arlon_cli.dioramas import vocabulary
from arlon_cli.errors import CheckpointError, InputError
from arlon_cli.models.attribute_classifier import AttributeClassifier
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.text_encoder import TextEncoder, build_tokenizer
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.presets import DIORAMA
from arlon_cli.storage.checkpoint import PARTS, Checkpoint, save_checkpoint
from arlon_cli.training import classifier, dit, text, vae
from arlon_cli.training.budget import Budget
from arlon_cli.training.clips import (
    ClipKind,
    CodedClips,
    LatentClips,
    also_half_a_code_later,
    condition_batches,
    decode_clips,
    encode_clips,
    read_clips,
    write_clips,
)
from arlon_cli.training.data import caption_batch, pixel_batch
from arlon_cli.training.diorama_ar import train_drafts, train_ranker
from arlon_cli.training.diorama_vqvae import sharpen_decoder, train_latent_vqvae
from arlon_cli.training.loop import Interrupted
from arlon_cli.training.pictures import read_pictures, write_pictures
from arlon_cli.training.samples import Samples
from arlon_cli.training.stages import Run, Scale, scale_of
from arlon_cli.training.start import check_same_run, check_target, folder_of_run

SHARES = {
    "text_encoder": 5,
    "video_vae": 12,
    "clips": 10,
    "starts": 12,
    "subjects": 4,
    "changes": 8,
    "latent_vqvae": 20,
    "latent_vqvae_coarse": 4,
    "decoder": 10,
    "ar": 34,
    "guidance": 8,
    "ranker": 5,
    "mentions": 2,
    "dit": 30,
    "pictures": 4,
    "classifier": 3,
}
_SHARES_ON = SHARES | {
    "text_encoder": 3,
    "clips": 8,
    "starts": 10,
    "subjects": 5,
    "latent_vqvae": 6,
    "latent_vqvae_coarse": 2,
    "decoder": 16,
    "ar": 30,
    "guidance": 14,
    "ranker": 5,
    "mentions": 2,
    "dit": 24,
    "pictures": 3,
    "classifier": 2,
}
"""Those of a model that learns on, by the codes it has: it knows its world, but new lessons take from its drafts what
guidance taught them, and from its decoder what a discriminator did"""

_CODED = ("latent_vqvae", "latent_vqvae_coarse", "ar")
_LEARNS = {
    "clips": (*_CODED, "dit"),
    "starts": (*_CODED, "ranker"),
    "subjects": ("ranker",),
    "changes": _CODED,
    "decoder": ("latent_vqvae",),
    "guidance": ("ar",),
    "mentions": ("ranker",),
    "pictures": ("classifier",),
}
"""Which parts learn from what a stage makes, or in it, where it has not the name of its part"""

_READ_TEXT = {"ar", "ranker", "dit"}
_READ_CODES = {"latent_vqvae": {"ar", "ranker", "dit"}, "latent_vqvae_coarse": {"dit"}}
_VAE_RATE = 4e-4
_FIRST_START, _FIRST_CHANGE, _FIRST_PICTURE, _FIRST_SUBJECT = 300_000, 600_000, 800_000, 900_000
"""By how many scenes these follow those of whole clips"""

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
    start: Checkpoint | None = None,
    parts: Collection[str] = (),
    new_codes: bool = False,
    config: ModelConfig = DIORAMA,
    scale: Scale | None = None,
) -> Path:
    """Train `parts` of `PARTS`, by default all, and leave a checkpoint in `folder`/checkpoint, which is returned.

    They begin as they are in `start`, whose other parts stay as they are; without it all are new, of a model as
    `config` describes it. With `new_codes`, latent VQ-VAEs of `start` learn on in all that they are, not in their
    decoders alone. `scale` is by default that of the device. Stages that an earlier call finished are kept, one
    that it was stopped in goes on. Raises Interrupted after `stop()` turned true and the state was saved, InputError
    for a start that cannot be one, parts that it has not, or another run in the folder.
    """
    if start is not None:
        config = start.config
        _check_start(start)
        check_target(folder / "checkpoint", start)
    wanted = _parts_to_train(parts, config, start)
    if new_codes:
        _check_new_codes(wanted, start)
    with folder_of_run(folder):
        identity = {
            "start": None if start is None else start.digest,
            "parts": sorted(wanted),
            "new_codes": new_codes,
            "seed": seed,
        }
        check_same_run(folder / "run.json", identity)
        shares = SHARES if start is None or new_codes else _SHARES_ON
        shares = {stage: share for stage, share in shares.items() if wanted.intersection(_LEARNS.get(stage, (stage,)))}
        run = Run(
            folder=folder,
            parts=wanted,
            start=start,
            config=config,
            scale=scale or scale_of(device),
            device=device,
            precision=precision,
            seed=seed,
            budget=Budget(folder / "budget.json", minutes, shares),
            on_event=on_event,
            stop=stop,
            new_codes=new_codes,
        )
        checkpoint = folder / "checkpoint"
        save_checkpoint(checkpoint, config, train_parts(run), torch.bfloat16)
    on_event(f"checkpoint: {checkpoint}")
    return checkpoint


def _check_start(start: Checkpoint) -> None:
    if start.config.published is not None or not isinstance(start.config.video_vae, VideoVAEConfig):
        raise InputError(
            f"{start.folder} is made of published weights, which know no dioramas; train its parts on videos, "
            "with `arlon train vqvae`, `ar` and `dit`."
        )


def _parts_to_train(parts: Collection[str], config: ModelConfig, start: Checkpoint | None) -> frozenset[str]:
    """`parts`, or all that the model has.

    Raises InputError for those that it has not, or that need others, CheckpointError for a start that lacks some.
    """
    known = [part for part in PARTS if part != "ranker" or config.ranker is not None]
    wanted = frozenset(parts or known)
    if unknown := sorted(wanted.difference(known)):
        raise InputError(f"There is no part {', '.join(unknown)} to train; there are {', '.join(known)}.")
    if start is None and len(wanted) < len(known):
        raise InputError("Some parts alone can only be trained where others are: name a model to start from.")
    if start is not None and (missing := [part for part in known if not start.has(part)]):
        raise CheckpointError(f"{start.folder} has no {', '.join(missing)}; all parts begin as they are there.")
    if "text_encoder" in wanted and (left := sorted(_READ_TEXT.intersection(known) - wanted)):
        raise InputError(f"Features of a text encoder that learns are new to {', '.join(left)}; train them with it.")
    return wanted


def _check_new_codes(wanted: frozenset[str], start: Checkpoint | None) -> None:
    """Raises InputError where no latent VQ-VAE of `start` is to learn, or some part would not know its codes."""
    learning = _READ_CODES.keys() & wanted
    if start is None or not learning:
        raise InputError("New codes are those of a latent VQ-VAE that is trained on: name a model, and that part.")
    readers = set().union(*(_READ_CODES[part] for part in learning))
    if left := sorted(part for part in readers.difference(wanted) if start.has(part)):
        raise InputError(f"Codes that become others are new to {', '.join(left)}; train them with it.")


def train_parts(run: Run) -> dict[str, nn.Module]:
    """All parts, one after another, with what each learns from; those that are not to be trained as they were."""
    config, scale = run.config, run.scale
    text_encoder = train_text_encoder(run)
    video_vae = train_video_vae(run)
    samples = Samples(run.folder / "samples", config, video_vae)
    samples.reconstructions()
    kinds = {
        "clips": (scale.clips, scale.most_clips, 0),
        "starts": (scale.starts, scale.most_starts, _FIRST_START),
        "subjects": (scale.subjects, scale.most_subjects, _FIRST_SUBJECT),
        "changes": (scale.changes, scale.most_changes, _FIRST_CHANGE),
    }
    clips = {
        stage: make_clips(run, stage, video_vae, kind, most, first)
        for stage, (kind, most, first) in kinds.items()
        if stage in run.budget.shares
    }
    fine = train_latent_vqvae(run, "latent_vqvae", config.latent_vqvae, video_vae, clips)
    samples.conditions("latent_vqvae", fine)
    coarse = train_latent_vqvae(run, "latent_vqvae_coarse", config.latent_vqvae_coarse, video_vae, clips)
    samples.conditions("latent_vqvae_coarse", coarse)
    coded: dict[str, CodedClips] = {}
    if run.learns("latent_vqvae", "ar", "ranker"):
        coded = {stage: code_clips(fine, some, twice=stage == "clips") for stage, some in clips.items()}
    sharpen_decoder(run, fine, video_vae, coded)
    samples.conditions("decoder", fine)
    transformer = train_drafts(run, text_encoder, coded)
    samples.drafts(text_encoder, transformer, fine)
    rankers = {} if config.ranker is None else {"ranker": train_ranker(run, text_encoder, fine, coded)}
    stdit = train_dit(run, (coarse, fine), text_encoder, clips)
    samples.videos(text_encoder, transformer, fine, stdit)
    return {
        "text_encoder": text_encoder,
        "video_vae": video_vae,
        "latent_vqvae": fine,
        "latent_vqvae_coarse": coarse,
        "ar": transformer,
        **rankers,
        "dit": stdit,
        "classifier": train_classifier(run),
    }


def train_text_encoder(run: Run) -> TextEncoder:
    """Captions to what they tell of a scene: paraphrases meet before anything else is learnt from them."""
    if not run.learns("text_encoder"):
        return cast(TextEncoder, run.kept("text_encoder"))
    config = run.config.text_encoder
    assert isinstance(config, TextEncoderConfig)
    make = lambda: TextEncoder(config, build_tokenizer(vocabulary(), config))
    text_encoder = run.begin("text_encoder", make)
    model = text.CaptionReader(text_encoder).to(run.device)

    def batch_at(step: int) -> tuple[list[str], Tensor]:
        return caption_batch(run.scale.captions, run.seed, step, run.device)

    run.fit(
        "text_encoder",
        model,
        batch_at,
        lambda batch: text.loss(model, batch[0], batch[1]),
        learning_rate=run.rate("text_encoder", 1e-3),
    )
    return text_encoder


def train_video_vae(run: Run) -> VideoVAE:
    """Pixels to latents and back, from crops that are painted as they are needed.

    One that learns on keeps its statistics, and its latents where they were, since other parts know them.
    """
    if not run.learns("video_vae"):
        return cast(VideoVAE, run.kept("video_vae"))
    config = run.config.video_vae
    assert isinstance(config, VideoVAEConfig)
    model = run.begin("video_vae", lambda: VideoVAE(config))
    held = deepcopy(model).eval().requires_grad_(False) if run.goes_on("video_vae") else None
    crops = run.scale.crops

    def batch_at(step: int) -> Tensor:
        return pixel_batch(crops, run.seed, step, run.device)

    if held is None and not run.begun("video_vae"):
        model.init_from_patches(torch.cat([batch_at(-i) for i in range(1, run.scale.patch_scenes // crops.scenes + 1)]))
    run.fit(
        "video_vae",
        model,
        batch_at,
        lambda pixels: vae.vae_loss(model, pixels, vae.DIORAMA_VAE, crops=crops.crops, held=held),
        learning_rate=_VAE_RATE,
        matrix_rate=vae.MATRIX_RATE * _VAE_RATE,
    )
    if held is None:
        batches = (batch_at(-i) for i in range(1, run.scale.statistics_scenes // crops.scenes + 1))
        model.set_statistics(*vae.latent_statistics(model, batches))
    return model


def make_clips(run: Run, stage: str, video_vae: VideoVAE, kind: ClipKind, most: int, first: int) -> LatentClips:
    """Clips of a kind, painted and encoded once: what all later parts learn from."""
    folder = run.folder / stage
    if not any(map(run.begun, _LEARNS[stage])):
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


def code_clips(vqvae: LatentVQVAE, clips: LatentClips, *, twice: bool) -> CodedClips:
    """Clips with their codes; `twice`, also half a code later, for those that are few and long."""
    if twice:
        clips = also_half_a_code_later(clips, vqvae.config.ratio[0], VideoVAE.temporal_ratio)
    return clips, encode_clips(vqvae, clips.latents)


def train_dit(
    run: Run, vqvaes: Sequence[LatentVQVAE], text_encoder: TextEncoder, sources: Mapping[str, LatentClips]
) -> STDiT3:
    """Latents from noise, text and the condition of codes (2.2, 2.3).

    The paper trains on the coarser codes alone. Here a batch has those of any of `vqvaes`: in so short a training, the
    coarser alone teach too little of what a drafted detail looks like.
    """
    if not run.learns("dit"):
        return cast(STDiT3, run.kept("dit"))
    model = run.begin("dit", lambda: STDiT3(run.config.dit, run.config.injection))
    clips = sources["clips"]
    conditions = [decode_clips(vqvae, encode_clips(vqvae, clips.latents)) for vqvae in vqvaes]
    if model.linear_estimate is not None and (run.new_codes or not run.goes_on("dit")):
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
        learning_rate=run.rate("dit", 8e-4),
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
    if not run.learns("classifier"):
        return cast(AttributeClassifier, run.kept("classifier"))
    model = run.begin("classifier", lambda: AttributeClassifier(classifier.VISIBLE))
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
        learning_rate=run.rate("classifier", 2e-3),
        weight_decay=0.01,
    )
    return model
