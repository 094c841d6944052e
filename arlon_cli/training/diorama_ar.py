"""The recipe's drafts: the AR Transformer, and guidance taught to it, by its text and by a reader of codes."""

import random
from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from arlon_cli.dioramas import HELD_OUT
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.training import ar
from arlon_cli.training.clips import LatentClips, code_windows
from arlon_cli.training.code_reader import CodeReader, read_frames, reader_loss
from arlon_cli.training.reader_guidance import Drafts, own_drafts, reader_guidance_loss
from arlon_cli.training.stages import Run

CodedClips = tuple[LatentClips, Tensor]
"""Clips with their codes (N, T, h, w)"""

_FIRST_DRAFTED = 900_000  # scenes that nothing was painted of; their captions are enough

ARBatch = tuple[list[str], Tensor, Tensor]
"""Captions, codes (B, T, h, w), and how many of their frames are given (B,)"""


def train_drafts(
    run: Run, text_encoder: TextEncoder, fine: LatentVQVAE, clips: CodedClips, starts: CodedClips, changes: CodedClips
) -> ARTransformer:
    """The AR Transformer, with the text encoder that it reads, to its last lesson."""
    coded = (clips, starts, changes)
    teacher = train_ar(run, text_encoder, ar_batches(run, *coded, shortest=1))
    transformer = distill_guidance(run, text_encoder, teacher, ar_batches(run, *coded, shortest=1))
    reader = train_reader(run, fine, coded)
    learn_from_reader(run, text_encoder, reader, teacher, transformer, ar_batches(run, *coded, shortest=2))
    return transformer


def ar_batches(
    run: Run, whole: CodedClips, start: CodedClips, change: CodedClips, *, shortest: int
) -> Callable[[int], ARBatch]:
    """What gives the batch of a step, by its number, that the AR Transformer learns from.

    Only a first frame is drawn from the text alone, so half of the batches are of short windows, which show many
    scenes: the clips' own few would be learnt by heart. A quarter show nothing but changes of state, since a prompt
    that does not fit the frame before it is all that a later prompt's draft has to go by (4.5). Windows of fewer than
    `shortest` frames are left out.
    """
    frames_per_code = _frames_per_code(run)
    middle, longest = run.config.ar.window_frames // 2 + 1, run.config.ar.window_frames
    unchanged = run.scale.changes.lead // frames_per_code
    changing = run.scale.changes.length // frames_per_code - unchanged + 1  # with any number of those before it
    windows = (
        (1, start),
        (changing, change),
        (2, start),
        (middle, whole),
        (1, start),
        (changing, change),
        (1, start),
        (longest, whole),
    )
    cycle = [(window, coded) for window, coded in windows if window >= shortest]

    def batch_at(step: int) -> ARBatch:
        window, (source, codes) = cycle[step % len(cycle)]
        return code_windows(
            codes,
            source,
            batch=max(1, run.scale.ar_frames // (window + 1)),  # the text is about as long as a frame
            window=window,
            frames_per_code=frames_per_code,
            draw=random.Random(f"{run.seed} ar {step}"),
            anchored=run.config.ar.anchor_frame,
        )

    return batch_at


def train_ar(run: Run, text_encoder: TextEncoder, batch_at: Callable[[int], ARBatch]) -> ARTransformer:
    """Codes from text, with the text encoder that it reads, which learns on."""
    torch.manual_seed(run.seed)
    transformer = ARTransformer(run.config.ar)
    model = nn.ModuleDict({"text_encoder": text_encoder, "ar": transformer}).to(run.device)
    model.requires_grad_(True)
    run.fit(
        "ar",
        model,
        batch_at,
        lambda batch: ar.loss(text_encoder, transformer, batch[0], batch[1], ar.TRAINING, batch[2]),
        learning_rate=1e-3,
        weight_decay=0.02,
    )
    return transformer


def distill_guidance(
    run: Run, text_encoder: TextEncoder, teacher: ARTransformer, batch_at: Callable[[int], ARBatch]
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
    text_encoder: TextEncoder, teacher: ARTransformer, student: ARTransformer, batch: ARBatch
) -> tuple[Tensor, dict[str, Tensor]]:
    with torch.no_grad():
        text, text_mask = text_encoder.encode(ar.with_null(ar.drop(batch[0], ar.DISTILLING.text_dropout)))
    return ar.guidance_loss(teacher, student, text, text_mask, batch[1], ar.GUIDANCE, ar.DISTILLING)


def train_reader(run: Run, fine: LatentVQVAE, sources: Sequence[CodedClips]) -> CodeReader:
    """What tells the attributes of a scene from a frame of its codes."""
    torch.manual_seed(run.seed)
    config = run.config.ar
    reader = CodeReader(fine.codebook, config.code_height * config.code_width).to(run.device)
    frames, values = (
        torch.cat(parts)
        for parts in zip(*(read_frames(codes, clips, _frames_per_code(run)) for clips, codes in sources), strict=True)
    )

    def batch_at(step: int) -> tuple[Tensor, Tensor]:
        draw = random.Random(f"{run.seed} reader {step}")
        chosen = torch.tensor([draw.randrange(len(frames)) for _ in range(run.scale.read_frames)])
        return frames[chosen], values[chosen]

    run.fit(
        "reader",
        reader,
        batch_at,
        lambda batch: reader_loss(reader, batch[0], batch[1]),
        learning_rate=1e-3,
        weight_decay=0.05,
    )
    return reader


def learn_from_reader(
    run: Run,
    text_encoder: TextEncoder,
    reader: CodeReader,
    teacher: ARTransformer,
    transformer: ARTransformer,
    batch_at: Callable[[int], ARBatch],
) -> None:
    """Teach a model that drafts without guidance what a reader adds to its first frames, and behind changes of prompt.

    What follows them, its teacher still teaches; `batch_at` gives windows of more than one frame for that.
    """
    torch.manual_seed(run.seed)
    reference = deepcopy(transformer)
    transformer.requires_grad_(True)

    def both_at(step: int) -> tuple[Drafts, ARBatch]:
        changing = step % 4 == 3  # such drafts are longer
        count = max(1, run.scale.ar_frames // (8 if changing else 2))
        first = run.seed * 1_000_003 + _FIRST_DRAFTED + step * run.scale.ar_frames
        drafting = deepcopy(transformer).to(run.precision)
        seeds = [(first + i) % HELD_OUT for i in range(count)]
        return own_drafts(drafting, text_encoder, seeds, changing=changing), batch_at(step)

    def loss(batch: tuple[Drafts, ARBatch]) -> tuple[Tensor, dict[str, Tensor]]:
        drafts, window = batch
        value, metrics = reader_guidance_loss(reference, transformer, reader, drafts)
        later, others = _guidance_loss(text_encoder, teacher, transformer, window)
        return value + later, metrics | {"later": others["loss"]}

    run.fit("reader_guidance", transformer, both_at, loss, learning_rate=3e-4)


def _frames_per_code(run: Run) -> int:
    return VideoVAE.temporal_ratio * run.config.latent_vqvae.ratio[0]
