"""Training the ranker of drafts: what captions mention, and what frames of codes show."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from arlon_cli.dioramas import caption, mentioned
from arlon_cli.models.draft_ranker import DraftRanker
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.training.ar import corrupt
from arlon_cli.training.classifier import VISIBLE, mirror_half
from arlon_cli.training.clips import LatentClips, decode_clips
from arlon_cli.training.data import attribute_values, scene_of

_CORRUPTION = 0.3  # at most, of the codes that it learns from: what is drafted has errors
_NOISE = 0.1  # of F, so that there is more of it


def frames_loss(ranker: DraftRanker, condition: Tensor, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of what frames show, of their F (B, C, r, H, W), and values (B, A) of `VISIBLE`.

    Half of the frames are mirrored, which changes none of these attributes. Metrics: the accuracy of each attribute.
    Random numbers: torch's global generator.
    """
    condition = mirror_half(condition)
    condition = condition + _NOISE * torch.randn_like(condition)
    shown = ranker.shows(condition).split(ranker.config.num_values, dim=1)
    losses, right = [], []
    for some, value in zip(shown, values.unbind(1), strict=True):
        losses.append(F.nll_loss(some, value))
        right.append((some.detach().argmax(1) == value).float().mean())
    return torch.stack(losses).mean(), dict(zip(VISIBLE, right, strict=True))


def mentions_loss(ranker: DraftRanker, text: tuple[Tensor, Tensor], told: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of what prompts mention, of their text (P, L, C) and mask (P, L), and told (P, values).

    Metrics: `right`, how often all that a prompt tells is.
    """
    logits = ranker.mentions(*text)
    loss = F.binary_cross_entropy_with_logits(logits, told, reduction="sum") / len(told) / len(VISIBLE)
    return loss, {"right": ((logits.detach() > 0) == told.bool()).all(1).float().mean()}


def told_by(text_encoder: TextEncoder, seeds: Iterable[int]) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The text (P, L, C) and mask (P, L) of a caption of each of these scenes, and told (P, values): 1 for what of
    `VISIBLE` a caption mentions, and 0 elsewhere."""
    prompts, told = [], []
    for seed in seeds:
        scene = scene_of(seed)
        span = scene.spans[-1]
        prompts.append(caption(scene, len(scene.spans) - 1, scene.seed))
        said = mentioned(prompts[-1], span.attributes)
        told.append(
            [
                float(name in said and value == span.attributes[name])
                for name, values in VISIBLE.items()
                for value in values
            ]
        )
    text = text_encoder.encode(prompts)
    return text, torch.tensor(told, device=text[0].device)


def read_frames(codes: Tensor, clips: LatentClips, frames_per_code: int) -> tuple[Tensor, Tensor]:
    """The frames (n, h, w) of the clips' codes (N, T, h, w) that show one state, and what is visible in it (n, A)."""
    frames, values = [], []
    for clip, (scene, begin) in enumerate(zip(clips.scenes, clips.starts, strict=True)):
        for index in range(codes.shape[1]):
            start = begin + index * frames_per_code
            if any(span.settled <= start and start + frames_per_code <= span.end for span in scene.spans):
                frames.append(codes[clip, index])
                values.append(attribute_values(scene, start, VISIBLE))
    return torch.stack(frames), torch.tensor(values, device=codes.device)


def corrupted_conditions(vqvae: LatentVQVAE, frames: Tensor) -> Tensor:
    """F (n, C, r, H, W) in half precision of frames (n, h, w) each of which has a few wrong codes, as drafts have.

    Random numbers: torch's global generator.
    """
    share = _CORRUPTION * torch.rand(len(frames), 1, 1, device=frames.device).square()
    return decode_clips(vqvae, corrupt(frames, share, vqvae.config.codebook_size)[:, None], chunk=64)
