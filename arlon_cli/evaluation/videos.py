"""All the numbers of one video that need nothing but its frames."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arlon_cli.evaluation.appearance import (
    Appearance,
    appearance,
    colour_drift,
    seam_ratio,
    seam_ratio_by_chance,
    sharpness_ratio,
    temporal_flickering,
)
from arlon_cli.evaluation.consistency import subject_consistency
from arlon_cli.evaluation.motion import is_dynamic, motion_smoothness, movement, optical_flow

END_FRAMES = 68  # the ends of a video that are compared: a segment of the paper


@dataclass(frozen=True)
class Seams:
    """Where a video was put together: the first frames of later segments, and those of wanted cuts."""

    joins: tuple[int, ...]
    cuts: tuple[int, ...]


@dataclass(frozen=True)
class Measured:
    """A video's `metrics`, None for what it cannot tell, and what its frames look like."""

    metrics: dict[str, float | None]
    seen: Appearance


def measure_video(
    read: Callable[[], Iterable[np.ndarray]],
    fps: float,
    seams: Seams | None = None,
    features: Iterable[np.ndarray] | None = None,
) -> Measured:
    """Metrics of the frames (H, W, 3) uint8 that `read` starts to read anew.

    `features`, in chunks (n, D) of its frames, are those that tell whether the subject stays the same. Colour drift and
    sharpness compare the first with the last `END_FRAMES` frames, or half where there are fewer than twice as many.
    Raises InputError for fewer than two frames, and where OpenCV is not installed.
    """
    flow = optical_flow()
    seen = appearance(read())
    end = min(END_FRAMES, (len(seen.difference) + 1) // 2)
    moved = movement(read(), fps, flow)
    places = None if seams is None or not seams.joins else (seams.joins, seams.cuts)
    metrics = {
        "temporal_flickering": temporal_flickering(seen),
        "dynamic_degree_proxy": float(is_dynamic(moved)),
        "movement": float(moved.mean()) if len(moved) else None,
        "motion_smoothness_proxy": motion_smoothness(read(), flow),
        "subject_consistency_proxy": None if features is None else subject_consistency(features),
        "seam_ratio": None if places is None else seam_ratio(seen, *places),
        "seam_ratio_by_chance": None if places is None else seam_ratio_by_chance(seen, *places),
        "colour_drift": colour_drift(seen, end),
        "sharpness_ratio": sharpness_ratio(seen, end),
    }
    return Measured(metrics, seen)


def mean_metrics(videos: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of each metric over the videos that have it."""
    means: dict[str, float | None] = {}
    for name in videos[0]:
        values = [value for video in videos if (value := video[name]) is not None]
        means[name] = float(np.mean(values)) if values else None
    return means
