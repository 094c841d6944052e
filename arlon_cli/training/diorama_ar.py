"""The recipe's drafts: the AR Transformer, guidance taught to it, and the ranker of what it drafts."""

import random
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn

from arlon_cli.dioramas import HELD_OUT
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.draft_ranker import DraftRanker
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.training import ar
from arlon_cli.training.clips import BATCHES, CodeBatch, CodedClips, code_batches, encode_clips
from arlon_cli.training.ranker import corrupted_conditions, frames_loss, mentions_loss, read_frames, told_by
from arlon_cli.training.stages import Run

_LEARNING_RATE = 1e-3
_RANKER_RATE = 3e-3
_MENTIONS_RATE = 1e-2
_CAPTIONS = 128  # a step: there is no end of them, and they are quickly read


def train_drafts(run: Run, text_encoder: TextEncoder, clips: Mapping[str, CodedClips]) -> ARTransformer:
    """The AR Transformer, with the text encoder that it reads, to its last lesson."""
    if not run.learns("ar"):
        return cast(ARTransformer, run.kept("ar"))
    batch_at = ar_batches(run, clips["clips"], clips["starts"], clips["changes"])
    return distill_guidance(run, text_encoder, train_ar(run, text_encoder, batch_at, clips["starts"]), batch_at)


def ar_batches(run: Run, whole: CodedClips, start: CodedClips, change: CodedClips) -> Callable[[int], CodeBatch]:
    """What gives the batch of a step, by its number, that the AR Transformer learns from.

    Only a first frame is drawn from the text alone, so half of the batches are of short windows, which show many
    scenes: the clips' own few would be learnt by heart. A quarter show what comes of one frame and a prompt: a
    change where they differ, which is all that a later prompt's draft has to go by (4.5), and none where they agree.
    """
    frames_per_code = _frames_per_code(run)
    middle, longest = run.config.ar.window_frames // 2 + 1, run.config.ar.window_frames
    changing = run.scale.changes.length // frames_per_code  # all: what was, how it changes, and what it becomes
    cycle = (
        (1, start),
        (changing, change),
        (2, whole),
        (middle, whole),
        (1, start),
        (changing, change),
        (1, start),
        (longest, whole),
    )

    @lru_cache(len(cycle))
    def batches(turn: int, place: int) -> list[CodeBatch]:
        """What is drawn at once for a place in the cycle, a batch for each time that it comes again."""
        window, (source, codes) = cycle[place]
        return code_batches(
            codes,
            source,
            batch=max(1, run.scale.ar_frames // (window + 1)),  # the text is about as long as a frame
            window=window,
            frames_per_code=frames_per_code,
            draw=random.Random(f"{run.seed} ar {turn} {place}"),
            anchored=run.config.ar.anchor_frame,
        )

    def batch_at(step: int) -> CodeBatch:
        time, place = divmod(step, len(cycle))
        return batches(time // BATCHES, place)[time % BATCHES]

    return batch_at


def train_ar(
    run: Run, text_encoder: TextEncoder, batch_at: Callable[[int], CodeBatch], starts: CodedClips
) -> ARTransformer:
    """Codes from text; the text encoder that it reads learns on with it, where it is to be trained at all.

    New codes begin as what stood in their places in the `starts`, and are learnt as fast as a new model learns.
    """
    transformer = run.begin("ar", lambda: ARTransformer(run.config.ar))
    model = nn.ModuleDict({"text_encoder": text_encoder, "ar": transformer}).to(run.device)
    text_encoder.requires_grad_(run.learns("text_encoder"))
    new_codes = run.new_codes and run.learns("latent_vqvae")
    if new_codes and run.goes_on("ar") and run.goes_on("latent_vqvae") and not run.begun("ar"):
        clips, codes = starts
        ar.adopt_codes(transformer, encode_clips(cast(LatentVQVAE, run.kept("latent_vqvae")), clips.latents), codes)
    run.fit(
        "ar",
        model,
        batch_at,
        lambda batch: ar.loss(text_encoder, transformer, batch[0], batch[1], ar.TRAINING, *batch[2:]),
        learning_rate=_LEARNING_RATE if new_codes else run.rate("ar", _LEARNING_RATE),
        weight_decay=0.02,
    )
    return transformer


def distill_guidance(
    run: Run, text_encoder: TextEncoder, teacher: ARTransformer, batch_at: Callable[[int], CodeBatch]
) -> ARTransformer:
    """What drafts as its teacher does with guidance, in one pass instead of two."""
    torch.manual_seed(run.seed)
    student = deepcopy(teacher).requires_grad_(True)
    run.fit(
        "guidance",
        student,
        batch_at,
        lambda batch: _guidance_loss(text_encoder, teacher, student, batch),
        learning_rate=3e-4,
    )
    return student


def _guidance_loss(
    text_encoder: TextEncoder, teacher: ARTransformer, student: ARTransformer, batch: CodeBatch
) -> tuple[Tensor, dict[str, Tensor]]:
    prompts, codes, _, ended = batch
    with torch.no_grad():
        text, text_mask = text_encoder.encode(ar.with_null(ar.drop(prompts, ar.DISTILLING.text_dropout)))
    return ar.guidance_loss(teacher, student, text, text_mask, codes, ar.GUIDANCE, ar.DISTILLING, ended)


def train_ranker(
    run: Run, text_encoder: TextEncoder, fine: LatentVQVAE, coded: Mapping[str, CodedClips]
) -> DraftRanker:
    """What tells the frames of codes that show their prompts.

    Few drafts have as many subjects as they should, and few scenes have any that are counted: it sees more of these.
    """
    if not run.learns("ranker"):
        return cast(DraftRanker, run.kept("ranker"))
    config = run.config.ranker
    assert config is not None
    sources = [coded[kind] for kind in ("starts", "subjects")]
    ranker = run.begin("ranker", lambda: DraftRanker(config))
    frames, values = (
        torch.cat(parts)
        for parts in zip(*(read_frames(codes, clips, _frames_per_code(run)) for clips, codes in sources), strict=True)
    )
    conditions = corrupted_conditions(fine, frames)

    def batch_at(step: int) -> tuple[Tensor, Tensor]:
        draw = random.Random(f"{run.seed} ranker {step}")
        chosen = torch.tensor([draw.randrange(len(conditions)) for _ in range(run.scale.ranked_frames)])
        return conditions[chosen].float(), values[chosen]

    run.fit(
        "ranker",
        ranker,
        batch_at,
        lambda batch: frames_loss(ranker, *batch),
        learning_rate=run.rate("ranker", _RANKER_RATE),
        weight_decay=0.05,
    )

    def captions_at(step: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        draw = random.Random(f"{run.seed} mentions {step}")
        with torch.no_grad():
            return told_by(text_encoder, [draw.randrange(HELD_OUT) for _ in range(_CAPTIONS)])

    run.fit(
        "mentions",
        ranker.mentioned.requires_grad_(True),
        captions_at,
        lambda batch: mentions_loss(ranker, *batch),
        learning_rate=_MENTIONS_RATE,
    )
    return ranker


def _frames_per_code(run: Run) -> int:
    return VideoVAE.temporal_ratio * run.config.latent_vqvae.ratio[0]
