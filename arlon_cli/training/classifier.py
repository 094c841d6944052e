"""Training the reader of frames by which prompt accuracy is measured."""

import torch
from torch import Tensor
from torch.nn import functional as F

from arlon_cli.dioramas import ATTRIBUTES
from arlon_cli.models.attribute_classifier import AttributeClassifier

VISIBLE = {name: ATTRIBUTES[name] for name in ("family", "time", "weather", "colour", "count", "state", "company")}
"""The attributes that one frame shows."""


def loss(model: AttributeClassifier, frames: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean cross-entropy over the attributes of `VISIBLE` for frames (B, 3, H, W) in [-1, 1] and values (B, A).

    Half of the frames are blurred, since what is to be read later came out of a decoder, and half are mirrored, which
    changes none of these attributes. Metrics: accuracies.
    """
    frames = mirror_half(frames)
    soft = F.interpolate(F.avg_pool2d(frames, 2), scale_factor=2.0, mode="bilinear")
    logits = model(torch.where(_half(frames), soft, frames)).values()
    losses, accuracies = [], []
    for values, target in zip(logits, targets.unbind(1), strict=True):
        losses.append(F.cross_entropy(values.float(), target))
        accuracies.append((values.detach().argmax(1) == target).float().mean())
    return torch.stack(losses).mean(), dict(zip(VISIBLE, accuracies, strict=True))


def mirror_half(frames: Tensor) -> Tensor:
    """Frames (B, ..., W), of which each is mirrored with a chance of one half, by torch's global random numbers."""
    return torch.where(_half(frames), frames.flip(-1), frames)


def _half(frames: Tensor) -> Tensor:
    """Which of the frames (B, ...), as (B, 1, ...): each with a chance of one half."""
    return (torch.rand(len(frames), *[1] * (frames.dim() - 1)) < 0.5).to(frames.device)
