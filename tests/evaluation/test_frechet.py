import numpy as np
import pytest

from arlon_cli.evaluation.frechet import frechet_distance


def features(count: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(count, 6)) @ draw.normal(size=(6, 6))


def test_distance_of_shifted_and_of_scaled_gaussians() -> None:
    x = features(500)
    shift = np.array([3.0, 0, -4.0, 0, 0, 0])
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(x, x + shift) == pytest.approx(25)
    # about a mean of 0, twice the spread: tr(Σ + 4Σ - 2·2Σ) = tr Σ
    centred = x - x.mean(0)
    assert frechet_distance(centred, 2 * centred) == pytest.approx(np.trace(np.cov(x, rowvar=False)))


def test_it_is_symmetric_and_shrinks_with_more_of_the_same() -> None:
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(40, 5)), draw.normal(size=(40, 5))
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x))
    assert 0 < frechet_distance(draw.normal(size=(9000, 5)), draw.normal(size=(9000, 5))) < frechet_distance(x, y)


def test_fewer_features_than_dimensions_are_fine_and_one_is_not() -> None:
    assert frechet_distance(features(3), features(3)) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(features(1), features(5))
