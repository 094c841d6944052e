"""What a report shows of single videos: all their numbers, then each one's frames and how it changes over time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arlon_cli.evaluation.appearance import Appearance, by_segment
from arlon_cli.evaluation.report import Cell, Picture, Plot, Section, Table
from arlon_cli.evaluation.videos import END_FRAMES, Measured, Seams, mean_metrics

_SMOOTHED = 12  # frames over which what a plot shows is averaged


@dataclass(frozen=True)
class Video:
    """A video that was measured; `sheet` is a PNG of a few of its frames, where one was asked for."""

    name: str
    measured: Measured
    seams: Seams | None
    sheet: bytes | None


def overview(videos: Sequence[Video]) -> Section:
    """The metrics of videos, one at least."""
    mean = mean_metrics([video.measured.metrics for video in videos])
    rows: list[list[Cell]] = [[video.name, *video.measured.metrics.values()] for video in videos]
    rows += [["mean", *mean.values()]] if len(videos) > 1 else []
    return Section("Videos", "", [Table("Videos", ["video", *(name.replace("_", " ") for name in mean)], rows)])


def closer_look(video: Video) -> Section:
    """One video over time."""
    seen = video.measured.seen
    marks = [] if video.seams is None else [float(frame) for frame in (*video.seams.joins, *video.seams.cuts)]
    sharpness = _smooth(seen.sharpness)
    sharpness = sharpness / sharpness[0] if sharpness[0] > 0 else np.ones(len(sharpness))
    parts: list[Table | Plot | Picture] = []
    if video.sheet is not None:
        parts.append(Picture("Frames", video.sheet))
    parts += [
        Plot("Change from frame to frame, grey levels", "frame", {"change": _points(seen.difference, 1)}, marks),
        Plot("Colour, ΔE from the first frames", "frame", {"ΔE": _points(_from_start(seen), 0)}, marks),
        Plot("Sharpness, relative to the first frames", "frame", {"sharpness": _points(sharpness, 0)}, marks),
        _segments(seen, video.seams),
    ]
    return Section(video.name, "", parts)


def _segments(seen: Appearance, seams: Seams | None) -> Table:
    """Each segment against the first; where no joins are known, stretches as long as a segment of the paper."""
    later = range(END_FRAMES, len(seen.lab), END_FRAMES)
    known = seams is not None and (seams.joins or seams.cuts)
    starts = [0, *(sorted((*seams.joins, *seams.cuts)) if seams is not None and known else later)]
    rows = zip(starts, *(values.tolist() for values in by_segment(seen, starts)), strict=True)
    title = "Segments" if known else f"Stretches of {END_FRAMES} frames"
    return Table(title, ["from frame", "ΔE to the first", "sharpness to the first"], [list(row) for row in rows])


def _from_start(seen: Appearance) -> np.ndarray:
    """ΔE (T,) of each frame's mean colour from that of the first ones."""
    colours = np.stack([_smooth(channel) for channel in seen.lab.T], axis=1)
    return np.asarray(np.linalg.norm(colours - colours[0], axis=1))


def _smooth(values: np.ndarray) -> np.ndarray:
    """Averages over the neighbourhood, at the ends over what there is of it."""
    kernel = np.ones(min(_SMOOTHED, len(values)))
    return np.asarray(np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same"))


def _points(values: np.ndarray, first: int) -> list[tuple[float, float]]:
    return [(float(frame), float(value)) for frame, value in enumerate(values, start=first)]
