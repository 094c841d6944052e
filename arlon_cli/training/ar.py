"""Training the AR Transformer, and the text encoder with it (2.1)."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.text_encoder import TextEncoder

GUIDANCE = 2.0
"""That of drafts, for a model that has not learnt to do without"""


@dataclass(frozen=True)
class ARTrainingConfig:
    """`text_dropout`: share of prompts that become the null prompt, for guidance; `code_corruption`: share of context
    codes that become random ones, so that the model goes on well from its own errors.

    `start_corruption`: the most of that share in short windows, of starts and changes of prompt, where each draws its
    own, mostly a small one. Codes tell so much of their neighbours that next to them a prompt hardly counts; without
    them it has to.
    """

    text_dropout: float
    code_corruption: float
    start_corruption: float


TRAINING = ARTrainingConfig(text_dropout=0.1, code_corruption=0.05, start_corruption=0.8)
DISTILLING = ARTrainingConfig(text_dropout=0.05, code_corruption=0.05, start_corruption=0.05)
_SHORT_WINDOW = 7  # frames of a start, or of a change of prompt


def loss(
    text_encoder: TextEncoder,
    model: ARTransformer,
    prompts: list[str],
    codes: Tensor,
    config: ARTrainingConfig,
    num_given: Tensor | None = None,
    ended: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """`code_loss` of codes (B, T, h, w) after B prompts, for both models; some prompts become the null prompt."""
    text, text_mask = text_encoder.encode(drop(prompts, config.text_dropout))
    return code_loss(model, text, text_mask, codes, config, num_given, ended)


def code_loss(
    model: ARTransformer,
    text: Tensor,
    text_mask: Tensor,
    codes: Tensor,
    config: ARTrainingConfig,
    num_given: Tensor | None = None,
    ended: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy per token in nats of codes (B, T, h, w) after text (B, L, C) with its mask (B, L).

    ⟨FRAME⟩ and ⟨EOS⟩ count like codes; the first `num_given` (B,) frames are context alone and do not count, and the
    first `ended` (B,) of them belong to another prompt. Metrics: `loss`; `code_loss` and `code_accuracy` over the codes
    alone. Random numbers: torch's global generator.
    """
    context = corrupt(codes, corruption(codes, config), model.config.codebook_size)
    logits = _logits(model, text, text_mask, context, ended)
    targets = model.targets(codes)
    if num_given is not None:
        frame = torch.arange(targets.shape[1], device=codes.device) // (model.codes_per_frame + 1)
        counts = frame >= num_given[:, None]
        logits, targets = logits[counts], targets[counts]
    logits, targets = logits.flatten(0, -2), targets.flatten()
    losses = F.cross_entropy(logits, targets, reduction="none")
    mean = losses.mean()
    with torch.no_grad():
        is_code = targets < model.config.codebook_size
        metrics = {
            "loss": mean.detach(),
            "code_loss": losses[is_code].mean(),
            "code_accuracy": (logits.argmax(-1) == targets)[is_code].float().mean(),
        }
    return mean, metrics


def guidance_loss(
    teacher: ARTransformer,
    student: ARTransformer,
    text: Tensor,
    text_mask: Tensor,
    codes: Tensor,
    guidance_scale: float,
    config: ARTrainingConfig,
    ended: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """How far a student's own logits are from its teacher's guided ones: KL divergence per token in nats.

    One pass then does what guidance takes two for (after Meng et al., 2023, who did it for diffusion models). Text
    (2B, L, C) with its mask (2B, L) is that of B prompts, then as often the null prompt's; codes (B, T, h, w), whose
    first `ended` (B,) frames belong to another prompt. Metrics: `loss`; `agreement`, how often both find the same code
    the likeliest. Random numbers: torch's global generator.
    """
    codes = corrupt(codes, corruption(codes, config), teacher.config.codebook_size)
    with torch.no_grad():
        twice = None if ended is None else ended.repeat(2)
        given, free = code_logits(teacher, text, text_mask, codes.repeat(2, 1, 1, 1), twice).chunk(2)
        wanted = torch.lerp(free, given, guidance_scale).log_softmax(-1)
    logits = code_logits(student, text[: len(codes)], text_mask[: len(codes)], codes, ended).log_softmax(-1)
    divergence = F.kl_div(logits.flatten(0, 1), wanted.flatten(0, 1), log_target=True, reduction="batchmean")
    agreement = (logits.argmax(-1) == wanted.argmax(-1)).float().mean()
    return divergence, {"loss": divergence.detach(), "agreement": agreement}


def code_logits(
    model: ARTransformer, text: Tensor, text_mask: Tensor, codes: Tensor, ended: Tensor | None = None
) -> Tensor:
    """Logits (B, N, codebook size): ⟨FRAME⟩ and ⟨EOS⟩ are placed, never drawn."""
    return _logits(model, text, text_mask, codes, ended)[..., : model.config.codebook_size]


def _logits(
    model: ARTransformer, text: Tensor, text_mask: Tensor, codes: Tensor, ended: Tensor | None = None
) -> Tensor:
    longest = int(text_mask.sum(dim=1).max())  # what is padding in all texts costs time and says nothing
    logits: Tensor = model(text[:, :longest], text_mask[:, :longest], codes, ended)
    return logits.float()


@torch.no_grad()
def adopt_codes(model: ARTransformer, before: Tensor, after: Tensor) -> None:
    """Say what new codes mean, in place: each is the mean of those in whose places it stands.

    `before` and `after` are what the same latents are called by the old latent VQ-VAE and by the new one, of one shape.
    A code that stands nowhere becomes the mean of all.
    """
    size = model.config.codebook_size
    together = torch.bincount(after.flatten() * size + before.flatten(), minlength=size * size).view(size, size)
    together = torch.where((together.sum(1) == 0)[:, None], together.sum(0), together).float()
    shares = together / together.sum(1, keepdim=True)
    for tensor in (model.code_embedding.weight, model.head.weight, model.head.bias):
        tensor[:size] = shares @ tensor[:size]


def window_places(start: int, length: int, earliest: int, draw: random.Random) -> tuple[list[int], int]:
    """The places of a window's frames, from `start` on, and how many of the frames are given.

    Half of the windows that can begin with an anchor, as in long drafts: a frame from `earliest` on in place of their
    own first. Nothing follows from what is then next to it, so two frames are given.
    """
    places = list(range(start, start + length))
    if length < 3 or start <= earliest or draw.random() < 0.5:
        return places, 0
    return [draw.randrange(earliest, start), *places[1:]], 2


def with_null(prompts: list[str]) -> list[str]:
    """Prompts, then as often the null prompt."""
    return [*prompts, *[""] * len(prompts)]


def drop(prompts: list[str], share: float) -> list[str]:
    """Prompts of which about `share` are replaced by the null prompt."""
    dropped = (torch.rand(len(prompts)) < share).tolist()
    return ["" if is_dropped else prompt for prompt, is_dropped in zip(prompts, dropped, strict=True)]


def corruption(codes: Tensor, config: ARTrainingConfig) -> Tensor:
    """The share (B, 1, 1, 1) of each window of codes (B, T, h, w) that is to be replaced."""
    shape = (len(codes), 1, 1, 1)
    if codes.shape[1] <= _SHORT_WINDOW:
        return config.start_corruption * torch.rand(shape, device=codes.device).square()
    return torch.full(shape, config.code_corruption, device=codes.device)


def corrupt(codes: Tensor, share: Tensor, codebook_size: int) -> Tensor:
    """Codes (B, T, h, w) of which about `share`, that of each window, are replaced by uniformly random ones."""
    replaced = torch.rand(codes.shape, device=codes.device) < share
    return torch.where(replaced, torch.randint_like(codes, codebook_size), codes)
