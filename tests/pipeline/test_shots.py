import pytest

from arlon_cli.errors import InputError
from arlon_cli.pipeline.shots import Shot, check_shots, frames_of, scenes_of


def test_prompts_are_stripped() -> None:
    assert check_shots([Shot("  a hill\n", 5)]) == (Shot("a hill", 5),)


@pytest.mark.parametrize(
    "shots",
    [
        [],
        [Shot(" \n", 5)],
        [Shot("a", 0)],
        [Shot("a", -3)],
        [Shot("a", 10**9)],
        [Shot("a\0b", 5)],
        [Shot("a\x1b[2J", 5)],
        [Shot("\ud800", 5)],
        [Shot("a" * 5001, 5)],
    ],
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
