"""The numbers of one video together."""

import numpy as np
import pytest

from arlon_cli.evaluation.videos import END_FRAMES, Seams, mean_metrics, measure_video


def test_a_still_clip_with_one_changed_end() -> None:
    frames = np.full((3 * END_FRAMES, 32, 32, 3), 80, np.uint8)
    frames[2 * END_FRAMES :] = 200  # a cut where the last stretch begins
    found = measure_video(lambda: frames, 24, Seams(joins=(END_FRAMES,), cuts=(2 * END_FRAMES,))).metrics
    assert found["dynamic_degree_proxy"] == 0.0
    assert found["motion_smoothness_proxy"] == pytest.approx(1.0, abs=0.01)
    assert found["seam_ratio"] == found["seam_ratio_by_chance"] == 1.0
    assert found["colour_drift"] == pytest.approx(46.7, abs=1)  # L* of grey 80 is 34.0, that of 200 is 80.6
    assert found["sharpness_ratio"] == 1.0


def test_without_known_joins_there_is_no_seam_ratio() -> None:
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    for seams in (None, Seams(joins=(), cuts=(2,))):
        metrics = measure_video(lambda: frames, 24, seams).metrics
        assert metrics["seam_ratio"] is metrics["seam_ratio_by_chance"] is None


def test_consistency_is_that_of_the_features_that_are_given() -> None:
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    assert measure_video(lambda: frames, 24).metrics["subject_consistency_proxy"] is None
    same = measure_video(lambda: frames, 24, features=[np.ones((4, 3))]).metrics
    assert same["subject_consistency_proxy"] == pytest.approx(1.0)


def test_means_leave_out_what_is_missing() -> None:
    assert mean_metrics([{"a": 1.0, "b": None}, {"a": 3.0, "b": None}]) == {"a": 2.0, "b": None}
    assert mean_metrics([{"a": 1.0}, {"a": None}]) == {"a": 1.0}
