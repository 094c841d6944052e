"""Times of calls: several of them, after one that does not count."""

import re
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from arlon_cli.models.device import finish_work

REPEATS = 5


@dataclass(frozen=True)
class Spread:
    """What several measurements of a number came to; the spread is from the least of them to the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1])


def time_calls(work: Callable[[], object], device: torch.device, repeats: int) -> Spread:
    """The seconds of a call; the first call is for the caller to make, and does not count."""
    return time_in_turn([work], device, repeats)[0]


def time_in_turn(works: Sequence[Callable[[], object]], device: torch.device, repeats: int) -> list[Spread]:
    """As `time_calls`, of several that are called in turn: what slows the machine for a while slows all of them."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, taken in zip(works, seconds, strict=True):
            finish_work(device)
            start = time.perf_counter()
            work()
            finish_work(device)
            taken.append(time.perf_counter() - start)
    return [Spread.of(taken) for taken in seconds]


def peak_memory(device: torch.device) -> float | None:
    """The most memory in use so far, in GB: of the device, or on a CPU of this process; None where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    status = Path("/proc/self/status")  # Linux; `resource` tells there what the parent had in use as well
    if status.exists() and (peak := re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))):
        return int(peak[1]) * 1024 / 1e9
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
