"""Metrics of what frames look like, on clips whose answers are known."""

import cv2
import numpy as np
import pytest

from arlon_cli.errors import InputError
from arlon_cli.evaluation.appearance import (
    appearance,
    by_segment,
    colour_drift,
    lab_colour,
    seam_ratio,
    seam_ratio_by_chance,
    sharpness_ratio,
    temporal_flickering,
)

SIZE = 64


def still(num_frames: int, colour: tuple[int, int, int] = (90, 90, 90)) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (num_frames, SIZE, SIZE, 3)).copy()


def noise(num_frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_frames, SIZE, SIZE, 3), dtype=np.uint8)


def texture() -> np.ndarray:
    smooth = cv2.GaussianBlur(noise(1)[0].astype(np.float32), (0, 0), 2.0)
    return ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)


def test_flickering_of_a_still_clip_of_alternating_frames_and_of_noise() -> None:
    assert temporal_flickering(appearance(still(8))) == 1.0
    alternating = still(9, (255, 255, 255))
    alternating[1::2] = 0
    assert temporal_flickering(appearance(alternating)) == 0.0
    # the mean distance of two uniform values out of 0..255 is (256² - 1) / (3 · 256)
    expected = (255 - (256**2 - 1) / (3 * 256)) / 255
    assert temporal_flickering(appearance(noise(8))) == pytest.approx(expected, abs=0.002)


def test_flickering_of_a_known_step() -> None:
    frames = np.concatenate([still(3, (100, 100, 100)), still(1, (106, 106, 106))])  # differences 0, 0, 6
    assert temporal_flickering(appearance(frames)) == pytest.approx((255 - 2) / 255)


def test_seam_ratio_tells_a_hard_cut_from_an_even_change() -> None:
    ramp = np.concatenate([still(1, (10 + 2 * i,) * 3) for i in range(20)])
    assert seam_ratio(appearance(ramp), joins=(10,)) == pytest.approx(1.0)
    ramp[10:] += 8  # the difference at frame 10 is now 10 instead of 2
    assert seam_ratio(appearance(ramp), joins=(10,)) == pytest.approx(5.0)
    assert seam_ratio(appearance(ramp), joins=(5, 10)) == pytest.approx(3.0)
    assert seam_ratio(appearance(ramp), joins=(5,), cuts=(10,)) == pytest.approx(1.0)
    assert seam_ratio(appearance(still(8)), joins=(4,)) == 1.0


def test_what_joins_anywhere_else_would_give_tells_flashes_from_seams() -> None:
    ramp = np.concatenate([still(1, (10 + 2 * i,) * 3) for i in range(21)])
    assert seam_ratio_by_chance(appearance(ramp), joins=(10,)) == pytest.approx(1.0)
    ramp[10:] += 8  # 10 instead of 2 at the join, which counts for nothing here
    assert seam_ratio_by_chance(appearance(ramp), joins=(10,)) == pytest.approx(1.0)
    ramp[5:] += 18  # 20 at one of the 19 other places
    assert seam_ratio_by_chance(appearance(ramp), joins=(10,)) == pytest.approx((18 * 2 + 20) / 19 / 2)
    assert seam_ratio_by_chance(appearance(ramp), joins=(10,), cuts=(5,)) == pytest.approx(1.0)


def test_lab_of_known_colours() -> None:
    colours = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]]], np.uint8)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    assert np.allclose(lab_colour(colours)[0], expected, atol=0.05)


def test_colour_drift_between_the_ends() -> None:
    frames = np.concatenate([still(4, (255, 255, 255)), noise(10), still(4, (0, 0, 0))])
    assert colour_drift(appearance(frames), 4) == pytest.approx(100, abs=0.01)
    assert colour_drift(appearance(still(8)), 4) == 0.0


def test_sharpness_falls_by_blur_and_not_by_contrast() -> None:
    sharp = texture()
    blurred = cv2.GaussianBlur(sharp, (0, 0), 1.5)
    faded = (sharp // 2 + 60).astype(np.uint8)
    assert sharpness_ratio(appearance([sharp, sharp, blurred, blurred]), 2) < 0.8
    assert sharpness_ratio(appearance([sharp, sharp, faded, faded]), 2) == pytest.approx(1.0, abs=0.05)
    assert sharpness_ratio(appearance([blurred, sharp]), 1) > 1.25
    assert sharpness_ratio(appearance(still(4)), 2) == 1.0


def test_segments_are_compared_with_the_first() -> None:
    sharp = texture()
    blurred = cv2.GaussianBlur(sharp, (0, 0), 1.5)
    clip = appearance([sharp, sharp, blurred, blurred, blurred, sharp])
    drift, sharpness = by_segment(clip, (0, 2, 5))
    assert drift[0] == drift[2] == pytest.approx(0)
    assert list(sharpness[[0, 2]]) == pytest.approx([1.0, 1.0])
    assert sharpness[1] == pytest.approx(sharpness_ratio(appearance([sharp, blurred]), 1))
    drift, sharpness = by_segment(appearance([*still(2, (255, 255, 255)), *still(2, (0, 0, 0))]), (0, 2))
    assert list(drift) == pytest.approx([0, 100], abs=0.01)
    assert list(sharpness) == [1.0, 1.0]


def test_one_frame_is_too_short() -> None:
    with pytest.raises(InputError, match="1 frames"):
        appearance(still(1))
