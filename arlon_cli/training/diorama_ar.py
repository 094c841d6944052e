"""The recipe's drafts: the AR Transformer, guidance taught to it, and first frames ranked by how well they show."""

import random
from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.training import ar
from arlon_cli.training.clips import LatentClips, code_windows
from arlon_cli.training.loop import Interrupted
from arlon_cli.training.ranking import CodeReader, read_best_frames, read_frames, reader_loss, write_best_frames
from arlon_cli.training.stages import Run

CodedClips = tuple[LatentClips, Tensor]
"""Clips with their codes (N, T, h, w)"""

_FIRST_RANKED = 900_000  # captions of scenes that nothing was painted of

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
    learn_best_frames(run, text_encoder, reader, teacher, transformer, ar_batches(run, *coded, shortest=2))
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


def learn_best_frames(
    run: Run,
    text_encoder: TextEncoder,
    reader: CodeReader,
    teacher: ARTransformer,
    transformer: ARTransformer,
    batch_at: Callable[[int], ARBatch],
) -> None:
    """Teach a model that drafts without guidance its own best first frames; what follows them, its teacher still does.

    `batch_at` gives windows of more than one frame.
    """
    folder = run.folder / "best"
    if not run.begun("ranking"):
        with run.budget.stage("best"):
            write_best_frames(
                folder,
                transformer,
                text_encoder,
                reader,
                first=run.seed * 1_000_003 + _FIRST_RANKED,
                seconds=run.budget.allowance("best"),
                most=run.scale.most_ranked,
                per_file=run.scale.ranked,
                stop=run.stop,
            )
    if run.stop():
        raise Interrupted
    prompts, codes = read_best_frames(folder)
    torch.manual_seed(run.seed)
    transformer.requires_grad_(True)

    def both_at(step: int) -> tuple[list[str], Tensor, ARBatch]:
        draw = random.Random(f"{run.seed} ranking {step}")
        chosen = [draw.randrange(len(prompts)) for _ in range(max(1, run.scale.ar_frames // 2))]
        return [prompts[i] for i in chosen], codes[chosen].unsqueeze(1).to(run.device), batch_at(step)

    def loss(batch: tuple[list[str], Tensor, ARBatch]) -> tuple[Tensor, dict[str, Tensor]]:
        captions, best, window = batch
        first, metrics = ar.loss(text_encoder, transformer, captions, best, ar.EXACT)
        later, others = _guidance_loss(text_encoder, teacher, transformer, window)
        return first + later, {"best": metrics["code_loss"], "divergence": others["loss"]}

    run.fit("ranking", transformer, both_at, loss, learning_rate=1e-4)


def _frames_per_code(run: Run) -> int:
    return VideoVAE.temporal_ratio * run.config.latent_vqvae.ratio[0]
