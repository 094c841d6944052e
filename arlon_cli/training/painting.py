"""Scenes painted once and kept in files, by processes of their own.

One core paints a scene about as fast as many do, since a frame is many small operations. So each process has a core to
itself, and paints while the device encodes what is done.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from arlon_cli.dioramas import HELD_OUT, Scene, render

PROCESSES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""How many paint; 0 paints in the process that asks"""

Choice = Callable[[int], tuple[Scene, Sequence[int]]]
"""The scene of a seed, and which of its frames to paint; processes that paint must be able to import it"""


def paint_files(
    files: Iterable[tuple[Path, list[int]]], choose: Choice, size: int
) -> Iterator[tuple[Path, list[int], list[Tensor]]]:
    """Each of `files` with its seeds, and the frames (n, 3, size, size) uint8 that are chosen for each of them.

    Files are asked for a little ahead.
    """
    begun: deque[tuple[Path, list[int]]] = deque()

    def seeds() -> Iterator[int]:
        for file, its_seeds in files:
            begun.append((file, its_seeds))
            yield from its_seeds

    painted = map(torch.from_numpy, _paint(_Painter(choose, size), seeds()))
    for first in painted:
        file, its_seeds = begun.popleft()
        yield file, its_seeds, [first, *islice(painted, len(its_seeds) - 1)]


@dataclass(frozen=True)
class _Painter(Dataset[np.ndarray]):
    """Chosen frames by seed, (n, 3, size, size) uint8: arrays, which need no shared memory on their way."""

    choose: Choice
    size: int

    def __getitem__(self, seed: int) -> np.ndarray:
        scene, frames = self.choose(seed)
        painted = render([scene], torch.tensor(frames), self.size)[0]
        return (painted * 255).round().byte().numpy()


def _paint(painter: _Painter, seeds: Iterator[int]) -> Iterator[np.ndarray]:
    return iter(
        DataLoader(
            painter,
            batch_size=None,
            sampler=seeds,  # taken one by one, as they are needed
            collate_fn=_as_it_is,
            worker_init_fn=_ignore_interrupts,
            num_workers=PROCESSES,
            multiprocessing_context="spawn" if PROCESSES else None,
        )
    )


def _as_it_is(painted: Any) -> Any:
    return painted


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches all processes; the one that asked ends in its own time, and these with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def files_to_write(
    folder: Path, *, first: int, per_file: int, most: int, seconds: float, stop: Callable[[], bool]
) -> Iterator[tuple[Path, list[int]]]:
    """The files of `folder` that are not there yet, with the seeds of their scenes, for so many seconds.

    There are `per_file` scenes in each and `most` in all, whose seeds go up from `first`. The first file is given
    whatever time there is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    for count in range(0, most, per_file):
        file = folder / f"{count:08d}.safetensors"
        if file.exists():
            continue
        if stop() or (time.monotonic() > end and count > 0):
            return
        yield file, [(first + count + i) % HELD_OUT for i in range(per_file)]
