"""A small convolutional reader of dioramas: which attributes does a frame show? It measures prompt accuracy."""

from itertools import pairwise

import torch
from torch import Tensor, nn


class AttributeClassifier(nn.Module):
    """Predicts each attribute of a diorama from one frame, by its own linear head on shared features.

    `attributes` maps a name to its values, in the order of the logits. Every value list ends in one meaning
    "does not apply" where a family lacks the attribute.
    """

    def __init__(self, attributes: dict[str, tuple[str, ...]], width: int = 32) -> None:
        super().__init__()
        self.attributes = attributes
        widths = [3, width, 2 * width, 4 * width, 4 * width, 6 * width]
        layers: list[nn.Module] = []
        for i, o in pairwise(widths):
            layers += [nn.Conv2d(i, o, 3, stride=2, padding=1), nn.GroupNorm(8, o), nn.SiLU()]
            layers += [nn.Conv2d(o, o, 3, padding=1, groups=8), nn.GroupNorm(8, o), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({name: nn.Linear(2 * widths[-1], len(v)) for name, v in attributes.items()})

    def embed(self, frames: Tensor) -> Tensor:
        """Features (B, D) of frames (B, 3, H, W) in [-1, 1]: mean and maximum over the picture."""
        features = self.features(frames).flatten(2)
        return torch.cat([features.mean(2), features.amax(2)], dim=1)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """Logits (B, values) of each attribute for frames (B, 3, H, W) in [-1, 1]."""
        embedded = self.embed(frames)
        return {name: head(embedded) for name, head in self.heads.items()}
