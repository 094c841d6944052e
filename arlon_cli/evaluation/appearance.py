"""What each frame looks like, reduced to a few numbers in one pass over a video, and the metrics of those.

Frames never accumulate: a video of any length is measured in the memory of two frames.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from arlon_cli.errors import InputError

_NO_DIFFERENCE = 0.01  # grey levels; ratios of smaller differences would tell of rounding alone

# sRGB (IEC 61966-2-1): light of each of the 256 values, and the matrix from light to CIE XYZ relative to white D65
_SRGB = np.arange(256) / 255
_LIGHT = np.where(_SRGB <= 0.04045, _SRGB / 12.92, ((_SRGB + 0.055) / 1.055) ** 2.4).astype(np.float32)
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_TO_XYZ = (_XYZ / _XYZ.sum(axis=1, keepdims=True)).astype(np.float32)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Appearance:
    """Of T frames: `difference` (T-1,), the mean absolute difference of neighbours in grey levels; the mean CIE L*a*b*
    colour `lab` (T, 3); and `sharpness` (T,), as `frame_sharpness` states it."""

    difference: np.ndarray
    lab: np.ndarray
    sharpness: np.ndarray


def appearance(frames: Iterable[np.ndarray]) -> Appearance:
    """Look once at each of the frames (H, W, 3) uint8. Raises InputError for fewer than two."""
    difference, lab, sharpness = [], [], []
    before: np.ndarray | None = None
    for frame in frames:
        if before is not None:
            difference.append(np.abs(frame.astype(np.int16) - before).mean())
        lab.append(lab_colour(frame).mean(axis=(0, 1)))
        sharpness.append(frame_sharpness(frame))
        before = frame
    if not difference:
        raise InputError(f"A video of {len(lab)} frames is too short to be measured; it takes at least 2.")
    return Appearance(np.array(difference), np.array(lab), np.array(sharpness))


def lab_colour(frame: np.ndarray) -> np.ndarray:
    """CIE L*a*b* colours (H, W, 3), white D65, of sRGB values (H, W, 3) uint8."""
    share = _LIGHT[frame] @ _TO_XYZ.T
    f = np.where(share > (6 / 29) ** 3, np.cbrt(share), share * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def frame_sharpness(frame: np.ndarray) -> float:
    """Standard deviation of the Laplacian of the luma, relative to that of the luma; 0 for a frame of one colour.

    Relative, since a scene whose contrast fades in fog or at night is not blurred by that.
    """
    luma = frame @ _LUMA
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    return float(laplacian.std() / max(luma.std(), _NO_DIFFERENCE))


def temporal_flickering(seen: Appearance) -> float:
    """VBench's temporal flickering, as VBench defines it: 1 for a still clip, 0 for alternating black and white."""
    return float((255 - seen.difference.mean()) / 255)


def seam_ratio(seen: Appearance, joins: Sequence[int], cuts: Sequence[int] = ()) -> float:
    """How much more changes at joins than elsewhere: mean difference at joins over the median of all other places.

    `joins` are the indices, at least 1, of the first frames of later segments; `cuts` those of wanted cuts, which count
    nowhere. Without a seam it is about 1.
    """
    return _over_median(seen.difference[np.array(joins, dtype=int) - 1], _elsewhere(seen, (*joins, *cuts)))


def seam_ratio_by_chance(seen: Appearance, joins: Sequence[int], cuts: Sequence[int] = ()) -> float:
    """What `seam_ratio` would be in the mean if the joins lay anywhere else: more than 1 where a scene has flashes."""
    elsewhere = _elsewhere(seen, (*joins, *cuts))
    return _over_median(elsewhere, elsewhere)


def _elsewhere(seen: Appearance, places: Sequence[int]) -> np.ndarray:
    return np.delete(seen.difference, np.array(places, dtype=int) - 1)


def _over_median(some: np.ndarray, of: np.ndarray) -> float:
    """The mean of some differences over the median one of others."""
    return float(max(some.mean(), _NO_DIFFERENCE) / max(np.median(of), _NO_DIFFERENCE))


def largest_jump(seen: Appearance) -> float:
    """The largest change from one frame to the next over the median one: large for a cut, wanted or not."""
    return float(max(seen.difference.max(), _NO_DIFFERENCE) / max(np.median(seen.difference), _NO_DIFFERENCE))


def colour_drift(seen: Appearance, num_frames: int) -> float:
    """ΔE (CIE 1976) between the mean colours of the first and of the last `num_frames` frames."""
    return float(np.linalg.norm(seen.lab[:num_frames].mean(axis=0) - seen.lab[-num_frames:].mean(axis=0)))


def by_segment(seen: Appearance, starts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """ΔE (S,) between the mean colours of each segment and the first, and sharpness (S,) relative to the first's.

    A segment goes from one of the `starts`, of which the first is 0, to the next.
    """
    colours = np.stack([part.mean(axis=0) for part in np.split(seen.lab, starts[1:])])
    sharpness = np.array([part.mean() for part in np.split(seen.sharpness, starts[1:])])
    first = sharpness[0]
    return np.linalg.norm(colours - colours[0], axis=1), sharpness / first if first > 0 else np.ones(len(starts))


def sharpness_ratio(seen: Appearance, num_frames: int) -> float:
    """Sharpness of the last `num_frames` frames over that of the first; 1 where neither shows anything."""
    first, last = seen.sharpness[:num_frames].mean(), seen.sharpness[-num_frames:].mean()
    return float(last / first) if first > 0 else 1.0
