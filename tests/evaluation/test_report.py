"""Reports that need nothing but their own file."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from arlon_cli.evaluation.overview import Video, closer_look, overview
from arlon_cli.evaluation.plot import bar_chart, line_plot
from arlon_cli.evaluation.report import Bars, Picture, Plot, Section, Table, to_html
from arlon_cli.evaluation.videos import Seams, measure_video
from arlon_cli.storage.sheet import sheet_png


class Balanced(HTMLParser):
    """Fails on a tag that is not closed, or closed out of turn."""

    VOID = ("meta", "img", "line", "circle", "rect")

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.opened.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag


def parsed(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    assert parser.opened == []
    return parser


def test_a_page_holds_everything_and_fetches_nothing() -> None:
    png = sheet_png([np.zeros((2, 4, 4, 3), np.uint8)])
    parts = [
        Table("Numbers", ["name", "value"], [["<b>", 0.123456], ["none", None]]),
        Plot("Curve", "steps", {"with": [(1, 2.0), (5, 3.0)], "without": [(1, 1.0)]}, marks=[2]),
        Bars("Shares", {"a < b": 0.5, "none": 0.0}),
        Picture('A "sheet"', png),
    ]
    page = to_html("A & B", [Section("First", "What was done.", parts)])
    found = parsed(page)
    assert all(source.startswith("data:image/png;base64,") for source in found.sources)
    assert len(found.sources) == 1
    assert "<script" not in page
    assert not re.search(r"https?://", page)
    for text in (
        "A &amp; B",
        "&lt;b&gt;",
        "0.1235",
        "a &lt; b",
        "50.0%",
        "What was done.",
        "A &quot;sheet&quot;",
        "light dark",
    ):
        assert text in page


def test_lines_go_where_their_points_are() -> None:
    svg = line_plot({"a": [(0, 0.0), (10, 100.0)], "b": [(5, 50.0), (6, float("nan"))]}, "x", marks=[5])
    root = ElementTree.fromstring(svg)
    lines = {line.get("class"): line.get("points", "").split() for line in root.iter("polyline")}
    (left, low), (right, high) = (tuple(map(float, point.split(","))) for point in lines["line-0"])
    middle = tuple(map(float, lines["line-1"][0].split(",")))
    assert left < right
    assert low > high  # y grows downwards
    assert middle == pytest.approx(((left + right) / 2, (low + high) / 2))
    assert len(lines["line-1"]) == 1
    mark = next(line for line in root.iter("line") if line.get("class") == "mark")
    assert float(mark.get("x1", "")) == pytest.approx(middle[0])
    assert [text.text for text in root.iter("text")][:6] == ["0", "20", "40", "60", "80", "100"]


@pytest.mark.parametrize("values", [(3.0,), (2.0, 2.0), (0.0, 0.0), (-1e-9, 1e-9), (1e12, 1e12 + 1), (0.0051, 0.0052)])
def test_any_values_can_be_drawn(values: tuple[float, ...]) -> None:
    root = ElementTree.fromstring(line_plot({"a": list(enumerate(values))}, "x"))
    (line,) = root.iter("polyline")
    for point in line.get("points", "").split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= 640
        assert 0 <= y <= 260


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no points"):
        line_plot({"a": [(1, float("inf"))]}, "x")


def test_bars_are_as_long_as_their_shares() -> None:
    root = ElementTree.fromstring(bar_chart({"a": 0.02, "b": 0.01, "c": 0.0}))
    a, b, c = (float(bar.get("width", "")) for bar in root.iter("rect"))
    assert a == pytest.approx(2 * b, abs=0.2)
    assert (a > 300, c) == (True, 0.0)
    assert [text.text for text in root.iter("text")] == ["a", "2.0%", "b", "1.0%", "c", "0.0%"]
    with pytest.raises(ValueError, match="b has no share"):
        bar_chart({"a": 1.0, "b": float("nan")})


def test_a_closer_look_at_a_video() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    seams = Seams(joins=(10,), cuts=(20,))
    video = Video("clip.mp4", measure_video(lambda: frames, 24, seams), seams, None)
    section = closer_look(video)
    (table,) = section.tables
    assert [row[0] for row in table.rows] == [0, 10, 20]
    assert table.rows[0][1:] == [0.0, 1.0]
    plot = next(part for part in section.parts if isinstance(part, Plot))
    assert plot.marks == [10.0, 20.0]
    assert len(plot.lines["change"]) == 29
    unknown = closer_look(Video("clip.mp4", video.measured, None, None))
    assert [row[0] for row in unknown.tables[0].rows] == [0]
    assert [row[0] for row in overview([video, video]).tables[0].rows] == ["clip.mp4", "clip.mp4", "mean"]
    parsed(to_html("Videos", [overview([video]), section, unknown]))
