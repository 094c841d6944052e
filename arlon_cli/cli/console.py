"""What the terminal shows: everything on stderr, but for the result."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from arlon_cli.pipeline.progress import Progress


_TABLE_WIDTH = 160  # where there is no terminal that has one
_NAME_WIDTH = 30  # of which the first column takes no less where its words are as long, and no more


class Interrupted(Exception):
    """The user stopped the run; the message says how to go on."""


def counted(number: int, thing: str) -> str:
    """A number of things, as `1 frame` or `2 frames`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def print_result(path: object, values: dict[str, Any], as_json: bool) -> None:
    """The result on stdout: its path alone, or one JSON object."""
    print(json.dumps({"path": str(path)} | values, ensure_ascii=False) if as_json else path, flush=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> None:
    """A table on stdout; numbers with four digits, None as a dash. Where it is too wide, each row is one by itself."""
    from rich.console import Console as Terminal
    from rich.table import Table

    from arlon_cli.evaluation.report import as_text

    def printed(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> None:
        table = Table(title=title, title_justify="left")
        for index, column in enumerate(columns):
            words = [cell for row in rows if isinstance(cell := row[index], str)]
            width = max(len(column), min(_NAME_WIDTH, max(map(len, words), default=0))) if index == 0 else None
            justify: Literal["left", "right"] = "left" if len(words) == len(rows) else "right"
            table.add_column(column, justify=justify, overflow="fold", width=width)
        for row in rows:
            table.add_row(*map(as_text, row))
        terminal.print(table)

    terminal = Terminal(width=None if sys.stdout.isatty() else _TABLE_WIDTH, markup=False, highlight=False)
    words = [[*column.split(), *(as_text(row[index]) for row in rows)] for index, column in enumerate(columns)]
    least = [max(map(len, some)) for some in words]
    if min(least[0], _NAME_WIDTH) + sum(least[1:]) + 3 * len(columns) + 1 <= terminal.width:
        printed(title, columns, rows)
        return
    for number, row in enumerate(rows):
        printed(None if number else title, (columns[0], as_text(row[0])), list(zip(columns[1:], row[1:], strict=True)))


def print_line(message: str) -> None:
    """One line on stderr."""
    print(message, file=sys.stderr, flush=True)


def printer(quiet: bool) -> Callable[[str], None]:
    """What shows events a line each on stderr; where it is to be quiet, nothing."""
    return (lambda message: None) if quiet else print_line


def print_error(message: str) -> None:
    """An error as one line on stderr."""
    print_line(f"Error: {' '.join(message.split())}")


class Console:
    """Shows how a whole job goes: a bar on a terminal, lines elsewhere. `verbosity` is -1 quiet, 0, or 1 verbose."""

    def __init__(self, verbosity: int) -> None:
        self.verbosity = verbosity
        self._bar: Bar | None = None
        self.begin("")

    def begin(self, label: str) -> None:
        """Start counting for a video; `label` goes before what is shown of it."""
        self.label = label
        self.segments = self.resumed = self.rendered = 0
        self._shown: tuple[str, int] = ("", -1)
        self._since = (time.monotonic(), 0)  # when, and behind which frame, rendering began

    def __enter__(self) -> Self:
        if self.verbosity >= 0 and sys.stderr.isatty():
            from rich.console import Console as Terminal
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[state]}"))
            self._bar = Progress(*columns, console=Terminal(stderr=True))
            self._bar.add_task("Starting", total=None, state="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def warn(self, message: str) -> None:
        """A warning, shown unless quiet."""
        self._say(f"Warning: {message}")

    def done(self, message: str) -> None:
        """The end of a video, shown unless quiet."""
        stored = f", {self.resumed} of {counted(self.segments, 'segment')} from the store" if self.resumed else ""
        self._say(f"{self.label}{message}{stored}")

    def counts(self) -> dict[str, int]:
        """How many segments the video has, and how many of them were found in the store."""
        return {"segments": self.segments, "resumed_segments": self.resumed}

    def progress(self, now: "Progress") -> None:
        """Show where the pipeline is."""
        self.segments = now.num_segments
        self.resumed += now.stage == "stored"
        if now.stage in ("text", "stored"):
            self._since = (time.monotonic(), now.num_frames)
        if now.stage == "denoise" and now.step == 0:
            self.rendered += 1
        if self.verbosity < 0:
            return
        if self._bar is not None:
            share = now.num_frames + (_share(now) if now.stage == "denoise" else 0.0)
            task = self._bar.task_ids[0]
            description = f"{self.label}{_describe(now)}"
            self._bar.update(
                task, description=description, completed=share, total=now.total_frames, state=self._state(now)
            )
        elif self.verbosity > 0 or (now.stage, now.segment) != self._shown:
            if now.stage not in ("decode", "preview") or self.verbosity > 0:
                print_line(f"{self.label}{_describe(now)}, {self._state(now)}")
            self._shown = (now.stage, now.segment)

    def _say(self, line: str) -> None:
        if self.verbosity < 0:
            return
        if self._bar is None:
            print_line(line)
        else:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _state(self, now: "Progress") -> str:
        frames = f"{now.num_frames}/{counted(now.total_frames, 'frame')}"
        stored = f", {counted(self.resumed, 'segment')} from the store" if self.resumed else ""
        start, first_frame = self._since
        if now.num_frames <= first_frame or now.stage == "preview":
            return f"{frames}{stored}"
        rate = (now.num_frames - first_frame) / max(1e-6, time.monotonic() - start)
        left = round((now.total_frames - now.num_frames) / rate)
        return f"{frames}, {rate:.1f} frames/s, {left // 60}:{left % 60:02d} left{stored}"


def _share(now: "Progress") -> float:
    """How many frames' worth of a segment the finished steps are, roughly."""
    return now.step / now.num_steps * now.total_frames / now.num_segments


def _describe(now: "Progress") -> str:
    if now.stage == "text":
        return "Reading the prompt"
    what = {
        "draft": "drafting",
        "preview": "previewing",
        "denoise": "rendering",
        "decode": "decoding",
        "stored": "found in the store",
    }[now.stage]
    step = f" (step {now.step}/{now.num_steps})" if now.stage == "denoise" and now.step else ""
    return f"Segment {now.segment} of {now.num_segments}: {what}{step}"
