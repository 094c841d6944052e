"""Batches of windows of one size and length, drawn from pieces of many."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from arlon_cli.errors import InputError
from arlon_cli.training.prepared import Piece, Size


@dataclass(frozen=True)
class Window:
    """Positions [start, start + length) of a piece, in its own unit: frames, latents or codes."""

    piece: Piece
    start: int
    length: int


class Buckets:
    """Pieces by size and by the longest of `lengths` that they fill; windows start at multiples of `unit`.

    A bucket and its pieces are drawn as often as they have footage. Pieces shorter than all lengths stay out:
    `num_short` of them. Raises InputError where none is left.
    """

    def __init__(self, pieces: Sequence[Piece], lengths: Sequence[int], unit: int = 1) -> None:
        self.unit = unit
        self.groups: dict[tuple[Size, int], list[Piece]] = {}
        for piece in pieces:
            length = max((length for length in lengths if length <= piece.length), default=None)
            if length is not None:
                self.groups.setdefault((piece.size, length), []).append(piece)
        self.num_short = len(pieces) - sum(map(len, self.groups.values()))
        if not self.groups:
            longest = max(piece.length for piece in pieces)
            raise InputError(f"The longest clip has {longest} of the {min(lengths)} frames (or latents) that it takes.")
        self._weights = {key: list(accumulate(p.length for p in group)) for key, group in self.groups.items()}

    def draw(self, samples: range, seed: int, step: int) -> list[Window]:
        """The windows of some samples of a step, all of one bucket, from (seed, step) and each sample's number alone.

        So a step is the same however its samples are split into micro-batches and among processes.
        """
        keys = list(self.groups)
        footage = [self._weights[key][-1] for key in keys]
        key = random.Random(f"{seed} bucket {step}").choices(keys, footage)[0]
        windows = []
        for sample in samples:
            draw = random.Random(f"{seed} window {step} {sample}")
            piece = draw.choices(self.groups[key], cum_weights=self._weights[key])[0]
            start = self.unit * draw.randint(0, (piece.length - key[1]) // self.unit)
            windows.append(Window(piece, start, key[1]))
        return windows


def halvings(longest: int, shortest: int) -> list[int]:
    """`longest`, and what halving leaves of it, down to `shortest`: lengths that short clips still fill."""
    lengths = [longest]
    while lengths[-1] // 2 >= shortest:
        lengths.append(lengths[-1] // 2)
    return lengths
