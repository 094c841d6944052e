from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arlon_cli.errors import InputError
from arlon_cli.storage.image import read_image


def test_a_wide_picture_is_cut_at_its_centre(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = (200, 100, 50)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    found = read_image(tmp_path / "wide.png", width=10, height=10)
    assert found.shape == (10, 10, 3)
    assert np.abs(found[:, 2:-2].astype(int) - (200, 100, 50)).max() < 8


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "1"])
def test_every_kind_of_picture(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (8, 12)).save(tmp_path / "kind.png")
    assert read_image(tmp_path / "kind.png", width=16, height=8).shape == (8, 16, 3)


def test_what_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    with pytest.raises(InputError, match="no file"):
        read_image(path, width=8, height=8)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    for content in (b"", b"Dear", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="no picture"):
            read_image(path, width=8, height=8)


def test_a_reader_may_fail_in_any_way(tmp_path: Path) -> None:
    path = tmp_path / "picture.dds"
    Image.new("RGB", (8, 8)).save(path)
    whole = path.read_bytes()
    for field in (80, 92):  # pixel format: flags and the mask of red
        path.write_bytes(whole[:field] + bytes(4) + whole[field + 4 :])
        with pytest.raises(InputError, match="no picture"):
            read_image(path, width=8, height=8)
