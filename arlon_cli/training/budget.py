"""How a recipe spends its minutes: shares per stage, kept on disk so that a resumed run keeps its plan."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arlon_cli.storage.partial import write_whole


class Budget:
    """Splits `minutes` among stages by `shares`; time that a stage leaves over goes to those after it.

    The file holds the seconds spent and the steps planned per stage: a stage's number of steps is fixed once, so that
    stopping and resuming changes nothing in its schedule.
    """

    def __init__(self, file: Path, minutes: float, shares: dict[str, int]) -> None:
        self.file, self.minutes, self.shares = file, minutes, shares
        self.spent: dict[str, float] = {}
        self.steps: dict[str, int] = {}
        if file.exists():
            stored = json.loads(file.read_text())
            self.spent, self.steps = stored["spent"], stored["steps"]

    def allowance(self, name: str) -> float:
        """The seconds that a stage may take from now on."""
        later = list(self.shares)[list(self.shares).index(name) :]
        before = self.spent.get(name, 0.0)
        left = self.minutes * 60 - sum(self.spent.values()) + before
        return max(1.0, left * self.shares[name] / sum(self.shares[stage] for stage in later) - before)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Records what a stage takes, also when it is interrupted."""
        before, start = self.spent.get(name, 0.0), time.monotonic()
        try:
            yield
        finally:
            self.spent[name] = before + time.monotonic() - start
            self._write()

    def plan(self, name: str, steps: int) -> None:
        """Fix the number of steps of a stage."""
        self.steps[name] = steps
        self._write()

    def _write(self) -> None:
        write_whole(self.file, json.dumps({"spent": self.spent, "steps": self.steps}, indent=2).encode())
