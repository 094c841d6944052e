"""Metrics of motion, on clips that move by known amounts."""

import sys

import cv2
import numpy as np
import pytest

from arlon_cli.errors import InputError
from arlon_cli.evaluation.motion import is_dynamic, midpoint, motion_smoothness, movement, optical_flow

SIZE = 128


def texture(size: int) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(size=(size, size, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3.0)
    return ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)


def shifting(places: list[int]) -> np.ndarray:
    """A texture that has moved to the right by `places` pixels."""
    wide = texture(SIZE + max(places))
    return np.stack([wide[:SIZE, max(places) - place :][:, :SIZE] for place in places])


def test_flow_of_a_known_shift() -> None:
    first, second = shifting([0, 5])
    flow = optical_flow()(first, second)
    assert np.median(flow[..., 0]) == pytest.approx(5, abs=0.1)
    assert np.median(flow[..., 1]) == pytest.approx(0, abs=0.1)


def test_movement_is_sampled_at_8_a_second_and_relative_to_the_threshold() -> None:
    frames = shifting([2 * i for i in range(25)])  # 2 pixels a frame, 6 a sample; the threshold is 3 at 128 pixels
    moved = movement(frames, 24, optical_flow())
    assert len(moved) == 8
    assert moved == pytest.approx(np.full(8, 2.0), rel=0.15)
    assert len(movement(frames, 8, optical_flow())) == 24
    slow = movement(shifting([6 * i for i in range(9)]), 4, optical_flow())  # 4 a second: twice the threshold
    assert slow == pytest.approx(np.full(8, 1.0), rel=0.15)


def test_the_longest_5_percent_of_the_vectors_count() -> None:
    frames = np.zeros((2, 100, 200, 3), np.uint8)

    def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        vectors = np.zeros((100, 200, 2), np.float32)
        vectors.reshape(-1, 2)[: 20000 // 25] = (3.0, 4.0)  # 4 % of them are 5 pixels long, and the rest 0
        return vectors

    assert len(movement(frames, 24, flow)) == 0  # the second frame is not sampled
    assert movement(frames, 8, flow) == pytest.approx([5 * 0.8 / (6 * 100 / 256)])


def test_what_is_dynamic() -> None:
    flow = optical_flow()
    assert is_dynamic(movement(shifting([2 * i for i in range(49)]), 24, flow))
    assert not is_dynamic(movement(shifting([i // 3 for i in range(49)]), 24, flow))
    assert not is_dynamic(movement(shifting([0] * 49), 24, flow))
    assert is_dynamic(np.array([2.0] * 4 + [0.0] * 11))  # 16 frames, 4 of them moving
    assert not is_dynamic(np.array([2.0] * 3 + [0.0] * 12))
    assert is_dynamic(np.array([2.0] * 8 + [0.0] * 23))  # 32 frames take 8
    assert not is_dynamic(np.array([2.0] * 7 + [0.0] * 24))
    assert not is_dynamic(np.array([]))


def test_the_midpoint_of_a_shift_is_half_of_it() -> None:
    first, middle, last = shifting([0, 3, 6])
    inner = (slice(None), slice(12, -12))
    between = midpoint(first, last, optical_flow()(first, last))
    assert np.abs(between[inner] - middle[inner]).mean() < 2
    assert np.abs(first.astype(float)[inner] - middle[inner]).mean() > 15


def test_smoothness_of_still_smooth_jerky_and_noisy_clips() -> None:
    flow = optical_flow()
    noise = np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3), dtype=np.uint8)
    still = motion_smoothness(shifting([0] * 9), flow)
    smooth = motion_smoothness(shifting([2 * i for i in range(9)]), flow)
    jerky = motion_smoothness(shifting([2 * i + 4 * (i % 2) for i in range(9)]), flow)
    assert still == 1.0
    assert smooth > 0.98
    assert smooth > jerky + 0.05
    assert motion_smoothness(noise, flow) < 0.8


def test_a_missing_opencv_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match=r"arlon\[eval\]"):
        optical_flow()
