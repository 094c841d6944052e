import io
import re
import sys

import pytest

from arlon_cli.cli.console import Console, print_error, print_table
from arlon_cli.pipeline.progress import Progress


def at(stage: str, segment: int, num_frames: int, step: int = 0) -> Progress:
    return Progress(stage, segment, num_segments=3, step=step, num_steps=2, num_frames=num_frames, total_frames=44)


RUN = [
    at("text", 0, 0),
    at("stored", 1, 0),
    at("decode", 1, 20),
    at("draft", 2, 20),
    at("denoise", 2, 20),
    at("denoise", 2, 20, step=1),
    at("denoise", 2, 20, step=2),
    at("decode", 2, 32),
    at("denoise", 3, 32),
    at("decode", 3, 44),
]


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Console(0) as console:
        for event in RUN:
            console.progress(event)
        console.done("a.mp4: 44 frames")
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    assert [line.split(",")[0] for line in err.splitlines()] == [
        "Reading the prompt",
        "Segment 1 of 3: found in the store",
        "Segment 2 of 3: drafting",
        "Segment 2 of 3: rendering",
        "Segment 3 of 3: rendering",
        "a.mp4: 44 frames",
    ]
    assert "frames/s" in err
    assert " left" in err
    assert err.endswith("1 of 3 segments from the store\n")
    assert console.counts() == {"segments": 3, "resumed_segments": 1}
    assert console.rendered == 2


def test_every_step_when_verbose_and_nothing_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    for verbosity in (1, -1):
        with Console(verbosity) as console:
            for event in RUN:
                console.progress(event)
            console.warn("careful")
    err = capsys.readouterr().err
    assert err.count("\n") == len(RUN) + 1
    assert "rendering (step 1/2)" in err


def test_counting_starts_anew_for_each_video(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(0)
    for number in (1, 2):
        console.begin(f"Job {number} of 2: ")
        for event in RUN:
            console.progress(event)
        assert console.resumed == 1
    assert capsys.readouterr().err.count("Job 2 of 2: Segment 3 of 3: rendering") == 1


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with Console(0) as console:
        for event in RUN:
            console.progress(event)
        console.warn("[careful]")
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "Segment 3 of 3: decoding" in shown
    assert "Warning: [careful]" in shown


@pytest.mark.parametrize(("width", "tables"), [(60, 1), (24, 2)])
def test_a_table_fits_the_terminal(
    width: int, tables: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table("Videos", ["path", "seam ratio", "drift"], [["a.mp4", 0.5, 1.25], ["b.mp4", None, 2.5]])
    out = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    assert out.count("Videos") == 1
    assert out.count("path") == out.count("drift") == tables
    assert all(word in out for word in ("a.mp4", "b.mp4", "0.5", "1.25", "2.5"))
    assert max(map(len, out.splitlines())) <= width


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("wrong\n here")
    assert capsys.readouterr().err == "Error: wrong here\n"
