import numpy as np
import pytest

from arlon_cli.evaluation.consistency import subject_consistency

X, Y = np.array([3.0, 0.0]), np.array([0.0, 0.5])


def test_what_stays_is_consistent_at_any_length_of_its_features() -> None:
    assert subject_consistency([np.stack([X, 2 * X, 0.1 * X])]) == pytest.approx(1.0)


def test_what_turns_into_something_else() -> None:
    # to the frame before and the first: 1 and 1, 0 and 0, 1 and 0
    assert subject_consistency([np.stack([X, X, Y, Y])]) == pytest.approx((1 + 0 + 0.5) / 3)
    # back again: 0 and 0, 0 and 1
    assert subject_consistency([np.stack([X, Y, X])]) == pytest.approx(0.25)


def test_the_opposite_is_as_far_as_the_unlike() -> None:
    assert subject_consistency([np.stack([X, -X])]) == 0.0


def test_chunks_do_not_matter() -> None:
    features = np.random.default_rng(0).normal(size=(9, 5))
    whole = subject_consistency([features])
    assert subject_consistency([features[:1], features[1:6], features[6:]]) == pytest.approx(whole)
