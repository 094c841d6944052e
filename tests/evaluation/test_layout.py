import numpy as np
import pytest

from arlon_cli.evaluation.layout import layout_agreement


def blocks(seed: int) -> np.ndarray:
    """A clip of grey blocks of 4×4 pixels that change from frame to frame."""
    values = np.random.default_rng(seed).integers(0, 200, (20, 16, 16), dtype=np.uint8)
    return np.repeat(values.repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=-1)


def test_brightness_and_contrast_do_not_matter_and_places_do() -> None:
    clip = blocks(0)
    assert layout_agreement(clip, clip) == pytest.approx(1.0, abs=1e-4)
    assert layout_agreement(clip, clip // 2 + 60) == pytest.approx(1.0, abs=1e-3)
    assert layout_agreement(clip, 255 - clip) == pytest.approx(-1.0, abs=1e-3)
    assert abs(layout_agreement(clip, blocks(1))) < 0.1
    assert layout_agreement(clip, clip[::-1].copy()) < 0.2


def test_an_empty_picture_has_no_layout() -> None:
    assert layout_agreement(blocks(0), np.full((5, 64, 64, 3), 80, np.uint8)) == pytest.approx(0.0, abs=1e-3)
