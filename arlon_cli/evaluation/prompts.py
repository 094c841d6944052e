"""Prompt accuracy: do videos show what held-out captions say, as far as a classifier reads it from their frames?"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from arlon_cli.dioramas import ATTRIBUTES, FAMILIES, HELD_OUT, SCENE_FRAMES, Scene, caption, mentioned, sample_scene
from arlon_cli.models.attribute_classifier import AttributeClassifier

_READ_FRAMES = 8
_CHUNK = 64  # frames that the classifier sees at once


@dataclass(frozen=True)
class HeldOut:
    """A scene that was never trained on, and a caption of its first span."""

    scene: Scene
    prompt: str

    @property
    def attributes(self) -> dict[str, str]:
        """What the first span shows."""
        return self.scene.spans[0].attributes


def held_out(count: int) -> list[HeldOut]:
    """The first `count` held-out scenes, each family as often as the next."""
    found = []
    for index in range(count):
        scene = sample_scene(HELD_OUT + index, family=FAMILIES[index % len(FAMILIES)], num_frames=SCENE_FRAMES)
        found.append(HeldOut(scene, caption(scene, 0, index)))
    return found


@torch.inference_mode()
def read_attributes(classifier: AttributeClassifier, frames: np.ndarray) -> dict[str, str]:
    """The value of each attribute that a clip (T, H, W, 3) uint8 shows: the likeliest over a few of its frames."""
    chosen = np.linspace(0, len(frames) - 1, min(_READ_FRAMES, len(frames))).round().astype(int)
    logits = classifier(_pixels(classifier, frames[chosen]))
    return {
        name: classifier.attributes[name][int(values.softmax(-1).mean(0).argmax())] for name, values in logits.items()
    }


def prompt_accuracy(read: Iterable[tuple[HeldOut, dict[str, str]]]) -> dict[str, float]:
    """The share of values read right, by attribute and `overall`, among those that the captions mention."""
    right, counted = Counter[str](), Counter[str]()
    for item, values in read:
        for name in mentioned(item.prompt, item.attributes) & values.keys():
            counted.update((name, "overall"))
            right.update((name, "overall") if values[name] == item.attributes[name] else ())
    return {name: right[name] / count for name, count in sorted(counted.items(), key=_order)}


def _order(counted: tuple[str, int]) -> int:
    return [*ATTRIBUTES, "overall"].index(counted[0])


@torch.inference_mode()
def features(classifier: AttributeClassifier, frames: np.ndarray) -> np.ndarray:
    """The classifier's features (T, D) of the frames of a clip (T, H, W, 3) uint8."""
    chunks = (frames[first : first + _CHUNK] for first in range(0, len(frames), _CHUNK))
    return np.concatenate([classifier.embed(_pixels(classifier, chunk)).float().cpu().numpy() for chunk in chunks])


def _pixels(classifier: AttributeClassifier, frames: np.ndarray) -> Tensor:
    """Frames (n, H, W, 3) uint8 as the classifier takes them: (n, 3, H, W) in [-1, 1], where it is."""
    weight = next(classifier.parameters())
    return torch.from_numpy(frames).to(weight.device).permute(0, 3, 1, 2).to(weight.dtype) / 127.5 - 1
