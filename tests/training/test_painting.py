import itertools
import math
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from arlon_cli.training import painting
from arlon_cli.training.clips import ClipKind
from arlon_cli.training.painting import files_to_write, paint_files

KIND = ClipKind(96, 4)


def files(folder: Path) -> Iterator[tuple[Path, list[int]]]:
    yield from files_to_write(folder, first=5, per_file=3, most=6, seconds=math.inf, stop=lambda: False)
    yield folder / "odd", [40]


def test_several_processes_paint_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = list(paint_files(files(tmp_path), KIND.frames, 16))
    monkeypatch.setattr(painting, "PROCESSES", 2)
    together = list(paint_files(files(tmp_path), KIND.frames, 16))
    assert [(file.name, seeds) for file, seeds, _ in alone] == [
        ("00000000.safetensors", [5, 6, 7]),
        ("00000003.safetensors", [8, 9, 10]),
        ("odd", [40]),
    ]
    for (file, seeds, painted), (other, other_seeds, again) in zip(alone, together, strict=True):
        assert (file, seeds) == (other, other_seeds)
        assert [frames.shape for frames in painted] == [(4, 3, 16, 16)] * len(seeds)
        assert all(torch.equal(a, b) for a, b in zip(painted, again, strict=True))


def test_files_are_not_asked_for_long_before_they_are_painted(tmp_path: Path) -> None:
    asked: list[int] = []

    def endless() -> Iterator[tuple[Path, list[int]]]:
        for number in itertools.count():
            asked.append(number)
            yield tmp_path / str(number), [number]

    painted = paint_files(endless(), KIND.frames, 16)
    assert [next(painted)[1] for _ in range(2)] == [[0], [1]]
    assert len(asked) <= 3


def test_ctrl_c_lets_those_that_paint_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painting, "PROCESSES", 1)
    painted = paint_files(files(tmp_path), KIND.frames, 16)
    first = next(painted)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)
    assert [seeds for _, seeds, _ in [first, *painted]] == [[5, 6, 7], [8, 9, 10], [40]]
