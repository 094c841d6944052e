from pathlib import Path

import pytest

from arlon_cli.errors import InputError
from arlon_cli.pipeline.shots import Shot, check_shots, frames_of, read_storyboard, scenes_of


def test_prompts_are_stripped() -> None:
    assert check_shots([Shot("  a hill\n", 5)]) == (Shot("a hill", 5),)


@pytest.mark.parametrize(
    "shots",
    [[], [Shot(" \n", 5)], [Shot("a", 0)], [Shot("a", -3)], [Shot("a", 10**9)], [Shot("a\0b", 5)], [Shot("\ud800", 5)]],
)
def test_bad_shots(shots: list[Shot]) -> None:
    with pytest.raises(InputError):
        check_shots(shots)


def test_a_shot_among_others_has_a_shortest_length() -> None:
    with pytest.raises(InputError, match="shot 2 is 7"):
        check_shots([Shot("a", 50), Shot("b", 7)])


def test_cuts_make_scenes() -> None:
    a, b, c, d = Shot("a", 9, cut=True), Shot("b", 9), Shot("c", 9, cut=True), Shot("d", 9)
    assert scenes_of([a, b, c, d]) == [(a, b), (c, d)]
    assert scenes_of([b, d]) == [(b, d)]


def test_frames_of_seconds() -> None:
    assert [frames_of(seconds, 24) for seconds in (0.001, 1, 2.5)] == [1, 24, 60]
    for seconds in (0, -1, float("nan"), float("inf"), 1e12):
        with pytest.raises(InputError):
            frames_of(seconds, 24)


def read(tmp_path: Path, text: str):  # type: ignore[no-untyped-def]
    file = tmp_path / "board.yaml"
    file.write_text(text)
    return read_storyboard(file, 24)


def test_a_storyboard(tmp_path: Path) -> None:
    text = "title: Hills\nseed: 7\nshots:\n- {prompt: a hill, frames: 30}\n- {prompt: a sea, seconds: 2.5, cut: true}\n"
    board = read(tmp_path, text)
    assert board.shots == (Shot("a hill", 30), Shot("a sea", 60, cut=True))
    assert (board.title, board.seed) == ("Hills", 7)


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "prompts").glob("*.yaml")), ids=lambda f: f.name)
def test_the_storyboards_that_come_along(file: Path) -> None:
    assert len(read_storyboard(file, 24).shots) > 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid YAML"),
        ("a hill", "no list `shots`"),
        ("shots: []", "no list `shots`"),
        ("shots: [a]", "shot 1 is no mapping"),
        ("shots: [{frames: 9}]", "shot 1 has no prompt"),
        ("shots: [{prompt: a, frames: 9}, {prompt: b}]", "shot 2 needs either frames or seconds"),
        ("shots: [{prompt: a, frames: 9, seconds: 2}]", "either"),
        ("shots: [{prompt: a, frames: 9.5}]", "whole number"),
        ("shots: [{prompt: a, frames: true}]", "whole number"),
        ("shots: [{prompt: a, seconds: .nan}]", "no length"),
        ("shots: [{prompt: a, frames: 9, cut: maybe}]", "cut"),
        ("shots: [{prompt: a, frames: 9, speed: 2}]", "unknown field speed"),
        ("shots: [{prompt: a, frames: 9}]\nseed: x", "seed"),
        ("shots: [{prompt: a, frames: 9}]\ntitle: 3", "title"),
        ("shots: [{prompt: a, frames: 9}]\nfps: 3", "unknown field fps"),
    ],
)
def test_bad_storyboards_say_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_a_storyboard_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Could not read"):
        read_storyboard(tmp_path / "nothing.yaml", 24)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="not valid YAML"):
        read_storyboard(tmp_path / "binary.yaml", 24)
