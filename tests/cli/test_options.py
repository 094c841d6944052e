from pathlib import Path

import pytest

from arlon_cli.cli.options import default_name, output_path
from arlon_cli.errors import InputError


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A red hill, under snow.", "a-red-hill-under-snow-7.mp4"),
        ("snake_case/and\\slashes", "snake-case-and-slashes-7.mp4"),
        ("../../etc", "etc-7.mp4"),
        ("火山", "火山-7.mp4"),
        ("🌋!", "video-7.mp4"),
    ],
)
def test_names(prompt: str, name: str) -> None:
    assert default_name(prompt, 7) == name


@pytest.mark.parametrize("prompt", ["a" * 999, "火" * 999, "hill " * 99])
def test_long_names_are_cut_by_bytes(prompt: str) -> None:
    name = default_name(prompt, 2**63 - 1)
    assert len(name.encode()) <= 200
    assert "-" + str(2**63 - 1) in name


def test_folders_take_the_default_name(tmp_path: Path) -> None:
    assert output_path(tmp_path, "a-1.mp4", overwrite=False) == tmp_path / "a-1.mp4"
    assert output_path(None, "a-1.mp4", overwrite=False) == Path("a-1.mp4")


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(InputError, match="--overwrite"):
        output_path(tmp_path / "a.mp4", "b.mp4", overwrite=False)
    assert output_path(tmp_path / "a.mp4", "b.mp4", overwrite=True) == tmp_path / "a.mp4"
