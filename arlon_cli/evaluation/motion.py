"""How much and how smoothly a video moves, by a classical optical flow (DIS; Kroeger et al., 2016).

VBench takes learnt networks here, RAFT for the flow and AMT for the midpoint; these are proxies without a download.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from arlon_cli.errors import InputError

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Two frames (H, W, 3) uint8 -> flow (H, W, 2) in pixels: what is at p in the first is at p + flow in the second"""

_SAMPLED_FPS = 8
_TOP_SHARE = 0.05
_THRESHOLD, _THRESHOLD_SIZE = 6.0, 256  # pixels of movement, where the shorter side has that many
_MOVING, _MOVING_FRAMES = 4, 16  # so many pairs of frames must move, where there are that many frames


def optical_flow() -> Flow:
    """The optical flow of this module; it raises InputError for frames that are too narrow.

    Raises InputError where OpenCV is not installed.
    """
    cv2 = _opencv()
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second))
        try:
            return np.asarray(dis.calc(*grey, None))
        except cv2.error as error:
            height, width = first.shape[:2]
            raise InputError(f"Frames of {width}x{height} are too narrow for their motion to be measured.") from error

    return flow


def movement(frames: Iterable[np.ndarray], fps: float, flow: Flow) -> np.ndarray:
    """Of each two neighbours among the frames (H, W, 3) uint8 sampled at about 8 a second, as VBench samples: the mean
    length of the longest 5 % of flow vectors, relative to VBench's threshold: 6 pixels at 256, and more as a video of
    fewer than 8 frames a second takes longer from one to the next."""
    slowness = max(1.0, _SAMPLED_FPS / fps)
    sampled = itertools.islice(frames, 0, None, max(1, round(fps / _SAMPLED_FPS)))
    lengths = []
    for first, second in itertools.pairwise(sampled):
        length = np.sort(np.linalg.norm(flow(first, second), axis=-1), axis=None)
        threshold = slowness * _THRESHOLD * min(first.shape[:2]) / _THRESHOLD_SIZE
        lengths.append(length[-max(1, int(_TOP_SHARE * length.size)) :].mean() / threshold)
    return np.array(lengths)


def is_dynamic(moved: np.ndarray) -> bool:
    """Whether a video counts as dynamic by VBench's rule: at least 4 in 16 of its sampled frames pass the threshold.

    One must pass in any case; VBench calls every video of two sampled frames dynamic.
    """
    needed = round(_MOVING * (len(moved) + 1) / _MOVING_FRAMES)
    return bool((moved > 1).sum() >= max(1, needed))


def motion_smoothness(frames: Iterable[np.ndarray], flow: Flow) -> float:
    """VBench's motion smoothness with another interpolation: how well the frames between tell those at odd places.

    Each odd frame is compared with a midpoint of its neighbours, both moved half way along the flow between them. 1 is
    perfect, and what a clip of fewer than three frames has.
    """
    errors = []
    stream = iter(frames)
    first = next(stream, None)
    while (middle := next(stream, None)) is not None and (last := next(stream, None)) is not None:
        assert first is not None
        errors.append(np.abs(midpoint(first, last, flow(first, last)) - middle).mean())
        first = last
    return float(1 - np.mean(errors) / 255) if errors else 1.0


def midpoint(first: np.ndarray, last: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The frame (H, W, 3) float32 half way between two, given the flow (H, W, 2) between them."""
    cv2 = _opencv()
    height, width = flow.shape[:2]
    place = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    half = flow / 2  # taken as that of the midpoint's own pixels, which is close where motion is smooth
    moved = [
        cv2.remap(frame.astype(np.float32), at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for frame, at in ((first, place - half), (last, place + half))
    ]
    return np.asarray((moved[0] + moved[1]) / 2)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise InputError("Measuring motion needs OpenCV; install it with `pip install 'arlon[eval]'`.") from error
    return cv2
