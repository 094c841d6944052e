"""What the experiments share: a model that renders what they ask for, and rows that stay."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import arlon_cli
from arlon_cli.config import ModelConfig, SemanticInjectionConfig
from arlon_cli.evaluation.clips import FEATURE_STRIDE, real_clips
from arlon_cli.evaluation.frechet import frechet_distance
from arlon_cli.evaluation.prompts import HeldOut, features, prompt_accuracy, read_attributes
from arlon_cli.evaluation.report import Picture
from arlon_cli.evaluation.results import Finding, Results, Row
from arlon_cli.evaluation.videos import END_FRAMES, Measured, Seams, mean_metrics, measure_video
from arlon_cli.models.attribute_classifier import AttributeClassifier
from arlon_cli.storage.sheet import ContactSheet, sheet_png

WITH_CODES, WITHOUT_CODES, RESCHEDULED = "with codes", "without codes", "FreeNoise's noise"
PAINTED = "painted"  # not rendered: what the prompt is a caption of
_PICTURE_FRAMES = 8


@dataclass(frozen=True)
class Take:
    """A video to render: prompts with their numbers of frames, one after the other, in one of the modes.

    With `like`, its codes are those of a held-out scene as painted; `model` is a checkpoint to render with instead of
    the studio's own.
    """

    shots: tuple[tuple[str, int], ...]
    seed: int
    num_steps: int
    mode: str
    like: HeldOut | None = None
    model: Path | None = None

    @property
    def num_frames(self) -> int:
        return sum(num_frames for _, num_frames in self.shots)


Judge = Callable[[np.ndarray, Measured], dict[str, Any]]
"""(frames (T, H, W, 3) uint8, what was measured of them) -> more values of a row"""


@dataclass(frozen=True)
class Studio:
    """A checkpoint at work: `render` yields chunks (n, H, W, 3) uint8 of a take, `seams` tells where its parts meet.

    `train` gives a checkpoint with another injection, trained for `training_steps` steps with F of the codes of a part.
    `items` are the held-out prompts of the experiments, `num_frames` the length of their long videos.
    """

    checkpoint: Path
    config: ModelConfig
    digest: str
    device: torch.device
    dtype: torch.dtype
    classifier: AttributeClassifier
    render: Callable[[Take], Iterable[np.ndarray]]
    seams: Callable[[Take], Seams]
    train: Callable[[SemanticInjectionConfig, str], Path]
    training_steps: int
    results: Results
    items: Sequence[HeldOut]
    num_frames: int
    seed: int
    on_event: Callable[[str], None]

    @property
    def clip_frames(self) -> int:
        """The length of short clips: the paper's 68 frames, or that of the long videos where these are shorter."""
        return min(END_FRAMES, self.num_frames)

    def row(self, experiment: str, about: dict[str, Any], work: Callable[[], Finding]) -> Row:
        """A row of an experiment, found before or worked out now."""
        key = {
            "experiment": experiment,
            **about,
            "seed": self.seed,
            "model": self.digest,
            "dtype": str(self.dtype).removeprefix("torch."),
            "version": arlon_cli.__version__,
        }
        if not self.results.has(key):
            self.on_event(f"{experiment}: {', '.join(f'{name} {value}' for name, value in about.items())}")
        return self.results.row(key, work)

    def clip(self, take: Take, *, with_picture: bool = False, judge: Judge | None = None) -> Finding:
        """Render a take and measure it."""
        frames = np.concatenate(list(self.render(take)))
        return self.measure(frames, self.seams(take), with_picture=with_picture, judge=judge)

    def painted(self, item: HeldOut, num_frames: int, *, with_picture: bool = False) -> Finding:
        """Measure a scene as painted, as far as its first state lasts."""
        (frames,) = self.paint([item], num_frames)
        return self.measure(frames, Seams((), ()), with_picture=with_picture)

    def paint(self, items: Iterable[HeldOut], num_frames: int) -> Iterator[np.ndarray]:
        """Scenes as painted, at the model's size."""
        return real_clips(items, num_frames, self.config.height, self.device)

    def measure(
        self, frames: np.ndarray, seams: Seams, *, with_picture: bool = False, judge: Judge | None = None
    ) -> Finding:
        """The metrics of a clip (T, H, W, 3) uint8, what the classifier reads in it, and its features."""
        embedding = features(self.classifier, frames)
        measured = measure_video(lambda: frames, self.config.fps, seams, [embedding])
        values = {"metrics": measured.metrics, "read": read_attributes(self.classifier, frames)}
        if judge is not None:
            values |= judge(frames, measured)
        return Finding(values, embedding[::FEATURE_STRIDE], _strip(frames) if with_picture else None)

    def summary(self, rows: Sequence[Row], painted: Sequence[Row]) -> dict[str, float | None]:
        """What rows of prompts come to together: accuracy, distance to the painted ones, mean metrics."""
        read = [(self.items[row.key["prompt"]], row.values["read"]) for row in rows]
        shown, real = (np.concatenate([row.features for row in some]) for some in (rows, painted))
        metrics = mean_metrics([row.values["metrics"] for row in rows])
        return {
            "prompt accuracy": prompt_accuracy(read).get("overall"),
            "Fréchet distance to real frames": frechet_distance(shown, real),
            **{name.replace("_", " "): value for name, value in metrics.items()},
        }


def pictures(rows: Iterable[Row], title: Callable[[Row], str]) -> list[Picture]:
    """The pictures of the rows that have one."""
    return [Picture(title(row), picture) for row in rows if (picture := row.picture) is not None]


def _strip(frames: np.ndarray) -> bytes:
    """A PNG of a few frames side by side."""
    sheet = ContactSheet(len(frames), columns=_PICTURE_FRAMES, rows=1)
    sheet.add(frames)
    return sheet_png(sheet.rows())
