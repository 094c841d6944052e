"""Batches are of one shape, cover all that a clip has, and hang on (seed, step) alone."""

from collections import Counter

import pytest

from arlon_cli.errors import InputError
from arlon_cli.training.buckets import Buckets, halvings
from arlon_cli.training.prepared import Piece, nearest_size

PIECES = [
    Piece("long", (32, 32), 40, "a hill"),
    Piece("short", (32, 32), 10, "a sea"),
    Piece("wide", (32, 64), 20, "snow"),
    Piece("shortest", (32, 32), 2, "snow"),
]


def test_a_batch_has_one_shape_and_stays_inside_its_pieces() -> None:
    buckets = Buckets(PIECES, halvings(16, 4), unit=4)
    assert {key: [piece.key for piece in group] for key, group in buckets.groups.items()} == {
        ((32, 32), 16): ["long"],
        ((32, 32), 8): ["short"],
        ((32, 64), 16): ["wide"],
    }
    assert buckets.num_short == 1
    starts = set()
    for step in range(200):
        windows = buckets.draw(range(3), 0, step)
        assert len({(window.piece.size, window.length) for window in windows}) == 1
        for window in windows:
            assert window.start % 4 == 0
            assert 0 <= window.start <= window.piece.length - window.length
            starts.add((window.piece.key, window.start))
    assert {start for key, start in starts if key == "long"} == set(range(0, 25, 4))


def test_footage_decides_how_often_a_piece_is_drawn() -> None:
    buckets = Buckets(PIECES, [8])
    drawn = Counter(window.piece.key for step in range(1000) for window in buckets.draw(range(2), 0, step))
    assert drawn["long"] / drawn["short"] == pytest.approx(4, rel=0.2)
    assert drawn["long"] / drawn["wide"] == pytest.approx(2, rel=0.2)


def test_a_step_is_the_same_however_it_is_split() -> None:
    buckets = Buckets(PIECES, [16, 8])
    for step in range(50):
        whole = buckets.draw(range(4), 7, step)
        assert [buckets.draw(range(i, i + 1), 7, step)[0] for i in range(4)] == whole
    assert len({buckets.draw(range(1), 7, step)[0].start for step in range(50)}) > 10


def test_clips_that_are_all_too_short_are_refused() -> None:
    with pytest.raises(InputError, match="longest clip has 40 of the 50"):
        Buckets(PIECES, [50, 100])


@pytest.mark.parametrize(
    ("video", "size"),
    [((720, 1280), (288, 512)), ((100, 100), (128, 128)), ((600, 600), (512, 512)), ((1280, 720), (512, 288))],
)
def test_a_clip_takes_the_size_nearest_to_its_own(video: tuple[int, int], size: tuple[int, int]) -> None:
    assert nearest_size(*video, [(128, 128), (512, 512), (288, 512), (512, 288), (144, 256)]) == size
