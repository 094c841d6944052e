"""Sets of clips of held-out prompts, real and rendered: prompt accuracy, metrics, and how far the sets are apart."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from arlon_cli.evaluation.frechet import frechet_distance
from arlon_cli.evaluation.heldout import held_out_clip
from arlon_cli.evaluation.prompts import HeldOut, features, prompt_accuracy, read_attributes
from arlon_cli.evaluation.videos import Seams, mean_metrics, measure_video
from arlon_cli.models.attribute_classifier import AttributeClassifier

FEATURE_STRIDE = 4  # frames between those whose features make a Fréchet distance: neighbours hardly differ

Render = Callable[[int, bool], np.ndarray]
"""(index of a held-out prompt, whether with codes) -> frames (T, H, W, 3) uint8"""


@dataclass(frozen=True)
class ClipSet:
    """What was measured on a set: accuracy by attribute, mean video metrics, the classifier's features (n, D)
    of every fourth frame."""

    prompt_accuracy: dict[str, float]
    metrics: dict[str, float | None]
    features: np.ndarray


def compare_clips(
    classifier: AttributeClassifier,
    items: Sequence[HeldOut],
    render: Render,
    *,
    num_frames: int,
    size: int,
    fps: int,
    seams: Seams,
    device: torch.device,
    on_event: Callable[[str], None] = lambda message: None,
) -> dict[str, dict[str, Any]]:
    """The numbers of real clips, and of those that `render` makes of the same prompts with and without codes.

    The Fréchet distances are those of the classifier's features to real ones.
    """
    sources: dict[str, Iterable[np.ndarray]] = {
        "real": real_clips(items, num_frames, size, device),
        "with_codes": (render(index, True) for index in range(len(items))),
        "without_codes": (render(index, False) for index in range(len(items))),
    }
    sets = {}
    for name, clips in sources.items():
        on_event(f"Measuring clips: {name.replace('_', ' ')}")
        sets[name] = measure_clips(classifier, items, clips, fps, Seams((), ()) if name == "real" else seams)
    return {
        name: {
            "prompt_accuracy": measured.prompt_accuracy,
            "frechet_distance": frechet_distance(measured.features, sets["real"].features),
            "metrics": measured.metrics,
        }
        for name, measured in sets.items()
    }


def measure_clips(
    classifier: AttributeClassifier, items: Sequence[HeldOut], clips: Iterable[np.ndarray], fps: float, seams: Seams
) -> ClipSet:
    """Measure clips (T, H, W, 3) uint8, one of each held-out scene, one after the other."""
    read, metrics, embedded = [], [], []
    for item, frames in zip(items, clips, strict=True):
        read.append((item, read_attributes(classifier, frames)))
        embedding = features(classifier, frames)
        metrics.append(measure_video(lambda frames=frames: frames, fps, seams, [embedding]).metrics)  # type: ignore[misc]
        embedded.append(embedding[::FEATURE_STRIDE])
    return ClipSet(prompt_accuracy(read), mean_metrics(metrics), np.concatenate(embedded))


def real_clips(items: Iterable[HeldOut], num_frames: int, size: int, device: torch.device) -> Iterator[np.ndarray]:
    """The first `num_frames` frames of each scene as painted, or fewer where its first state does not last so long."""
    for item in items:
        pixels = held_out_clip(item, min(num_frames, item.scene.spans[0].end), size, device)[0]
        yield ((pixels + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()
