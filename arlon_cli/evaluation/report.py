"""A report of an evaluation: sections of tables, plots and pictures, as one HTML file that needs nothing else."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from arlon_cli.evaluation.plot import Lines, bar_chart, line_plot

Cell = str | float | None


@dataclass(frozen=True)
class Table:
    """Rows under columns; None is a value that there is not."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Plot:
    """Lines over what `x_label` says, and places on it that are marked."""

    title: str
    x_label: str
    lines: Lines
    marks: Sequence[float] = ()


@dataclass(frozen=True)
class Bars:
    """A share of one for each name."""

    title: str
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Picture:
    """A PNG."""

    title: str
    png: bytes


@dataclass(frozen=True)
class Section:
    """What one subject comes to; `note` says in words what was done."""

    title: str
    note: str
    parts: Sequence[Table | Plot | Bars | Picture]

    @property
    def tables(self) -> list[Table]:
        return [part for part in self.parts if isinstance(part, Table)]


def as_text(cell: Cell) -> str:
    """A cell for people: numbers with four digits, None as a dash."""
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else f"{cell:.4g}"


def to_html(title: str, sections: Sequence[Section]) -> str:
    """A page that browsers show in light and in dark."""
    body = "\n".join(_section(section) for section in sections)
    return _PAGE.format(title=escape(title), style=_STYLE, body=body)


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>", f"<p>{escape(section.note)}</p>" if section.note else ""]
    for part in section.parts:
        shown = {Table: _table, Plot: _plot, Bars: _bars, Picture: _picture}[type(part)](part)  # type: ignore[operator]
        parts.append(f"<figure><figcaption>{escape(part.title)}</figcaption>{shown}</figure>")
    return f"<section>{''.join(parts)}</section>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _cell(cell: Cell) -> str:
    return f"<td{'' if isinstance(cell, str) else ' class=number'}>{escape(as_text(cell))}</td>"


def _plot(plot: Plot) -> str:
    names = "".join(f'<li class="line-{number}">{escape(name)}</li>' for number, name in enumerate(plot.lines))
    return f"{line_plot(plot.lines, plot.x_label, plot.marks)}<ul>{names}</ul>"


def _bars(bars: Bars) -> str:
    return bar_chart(bars.shares)


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    return f'<img alt="{escape(picture.title)}" src="data:image/png;base64,{data}">'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1c1f23, #e4e6e9); --paper: light-dark(#fff, #16181b);
  --faint: light-dark(#d5d9de, #3a3f46); --soft: light-dark(#5b626b, #9aa2ac); --c0: light-dark(#0b62c4, #6cb0ff);
  --c1: light-dark(#c2410c, #ff9d5c); --c2: light-dark(#15803d, #5fd08a); --c3: light-dark(#7e3ab8, #c79bff); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 72rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
figure { margin: 1.5rem 0; } figure > div { overflow-x: auto; }
figcaption { font-weight: 600; margin-bottom: .4rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--faint); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; } .number { text-align: right; }
img { max-width: 100%; } svg { max-width: 44rem; width: 100%; display: block; }
svg text { fill: var(--soft); font-size: 11px; } polyline { fill: none; stroke-width: 1.8; }
rect { fill: var(--c0); } .grid { stroke: var(--faint); } .mark { stroke: var(--soft); stroke-dasharray: 2 4; }
ul { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; margin: .3rem 0; }
li::before { content: "\\2014"; font-weight: 700; margin-right: .4rem; } li.line-0::before { color: var(--c0); }
li.line-1::before { color: var(--c1); } li.line-2::before { color: var(--c2); } li.line-3::before { color: var(--c3); }
polyline.line-0 { stroke: var(--c0); } polyline.line-1 { stroke: var(--c1); } polyline.line-2 { stroke: var(--c2); }
polyline.line-3 { stroke: var(--c3); } circle.line-0 { fill: var(--c0); } circle.line-1 { fill: var(--c1); }
circle.line-2 { fill: var(--c2); } circle.line-3 { fill: var(--c3); }
"""
