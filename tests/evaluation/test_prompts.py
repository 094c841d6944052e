"""Held-out prompts, and how accurately videos show them."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from arlon_cli.dioramas import FAMILIES, HELD_OUT, mentioned
from arlon_cli.evaluation.prompts import features, held_out, prompt_accuracy, read_attributes
from arlon_cli.models.attribute_classifier import AttributeClassifier


def test_held_out_scenes_are_no_training_scenes_and_cover_the_families() -> None:
    items = held_out(2 * len(FAMILIES))
    assert all(item.scene.seed >= HELD_OUT for item in items)
    assert [item.scene.family for item in items] == [*FAMILIES, *FAMILIES]
    assert len({item.prompt for item in items}) == len(items)
    assert items[:3] == held_out(3)


def test_accuracy_counts_what_the_captions_mention() -> None:
    items = held_out(60)
    truth = [(item, item.attributes) for item in items]
    assert set(prompt_accuracy(truth).values()) == {1.0}
    unsaid = [
        (item, {n: v if n in mentioned(item.prompt, item.attributes) else "?" for n, v in item.attributes.items()})
        for item in items
    ]
    assert prompt_accuracy(unsaid) == prompt_accuracy(truth)
    half = [(item, item.attributes | ({"family": "?"} if i % 2 else {})) for i, item in enumerate(items)]
    accuracy = prompt_accuracy(half)
    assert accuracy["family"] == 0.5
    assert accuracy["time"] == 1.0
    assert accuracy["family"] < accuracy["overall"] < 1.0
    assert list(accuracy)[-1] == "overall"


class Brightness(AttributeClassifier):
    """Reads `light` for bright frames; a stand-in whose answers are known."""

    def __init__(self) -> None:
        super().__init__({"tone": ("dark", "light")})
        self.gain = nn.Parameter(torch.tensor(4.0))

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        mean = self.gain * frames.mean((1, 2, 3))
        return {"tone": torch.stack([-mean, mean], dim=1)}


@pytest.mark.parametrize(("num_light", "tone"), [(0, "dark"), (10, "dark"), (30, "light"), (40, "light")])
def test_a_clip_is_read_by_the_most_of_its_frames(num_light: int, tone: str) -> None:
    frames = np.zeros((40, 32, 32, 3), np.uint8)
    frames[40 - num_light :] = 255
    assert read_attributes(Brightness(), frames) == {"tone": tone}


def test_a_single_frame_is_read_too() -> None:
    assert read_attributes(Brightness(), np.full((1, 32, 32, 3), 255, np.uint8)) == {"tone": "light"}


def test_features_of_each_frame_do_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    classifier = AttributeClassifier({"tone": ("dark", "light")}).eval()
    frames = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    found = features(classifier, frames)
    assert len(found) == 70  # more than the classifier sees at once
    assert np.allclose(found[66], features(classifier, frames[66:67])[0], atol=1e-5)
