"""What the text encoder learns first: to tell from a caption what its scene shows, so that paraphrases meet."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arlon_cli.dioramas import ATTRIBUTES
from arlon_cli.models.text_encoder import TextEncoder


class CaptionReader(nn.Module):
    """A text encoder with a linear head per attribute on the mean of its features; the heads are thrown away later."""

    def __init__(self, text_encoder: TextEncoder) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.heads = nn.ModuleList(nn.Linear(text_encoder.config.width, len(values)) for values in ATTRIBUTES.values())

    def forward(self, prompts: list[str]) -> list[Tensor]:
        """Logits (B, values) per attribute of `ATTRIBUTES`, in its order."""
        text, text_mask = self.text_encoder.encode(prompts)
        pooled = text.sum(1) / text_mask.sum(1, keepdim=True)
        return [head(pooled) for head in self.heads]


def loss(reader: CaptionReader, prompts: list[str], targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean cross-entropy of the attributes (B, A) of B captions, and the accuracy of each attribute.

    A caption leaves things out, so neither can become perfect.
    """
    logits = reader(prompts)
    losses = [F.cross_entropy(values, target) for values, target in zip(logits, targets.unbind(1), strict=True)]
    with torch.no_grad():
        right = [(v.argmax(1) == t).float().mean() for v, t in zip(logits, targets.unbind(1), strict=True)]
    return torch.stack(losses).mean(), dict(zip(ATTRIBUTES, right, strict=True))
