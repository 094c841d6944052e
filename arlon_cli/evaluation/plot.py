"""Plots of lines and bars as SVG: no script, no file beside it, colours by the classes of the page that holds it."""

import math
from collections.abc import Mapping, Sequence
from html import escape

Lines = Mapping[str, Sequence[tuple[float, float]]]
"""(x, y) points of each line, by its name"""

_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 40
_TICKS = 5
_BAR, _BEFORE_BAR, _BEHIND_BAR = 26, 190, 60


def line_plot(lines: Lines, x_label: str, marks: Sequence[float] = ()) -> str:
    """An SVG element of lines, with a vertical line at each of the `marks`; values that are not finite are left out.

    The nth line has the class `line-n`. Raises ValueError where there is nothing to draw.
    """
    drawn = {name: [p for p in points if all(map(math.isfinite, p))] for name, points in lines.items()}
    places = [point for points in drawn.values() for point in points]
    if not places:
        raise ValueError("There are no points to plot.")
    x_ticks, y_ticks = (_ticks(min(values), max(values)) for values in zip(*places, strict=True))
    low_x, high_x = min(x for x, _ in places), max(x for x, _ in places)

    def across(x: float) -> float:
        return _LEFT + (x - low_x) / ((high_x - low_x) or 1) * (_WIDTH - _LEFT - _RIGHT)

    def down(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (_HEIGHT - _TOP - _BOTTOM)

    left, right, top, bottom = _LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">']
    for y in y_ticks:
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{down(y):.1f}" y2="{down(y):.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{down(y) + 4:.1f}" text-anchor="end">{y:.4g}</text>')
    for x in x_ticks:
        if low_x <= x <= high_x:
            parts.append(f'<text x="{across(x):.1f}" y="{bottom + 16}" text-anchor="middle">{x:.4g}</text>')
    for mark in marks:
        parts.append(f'<line class="mark" x1="{across(mark):.1f}" x2="{across(mark):.1f}" y1="{top}" y2="{bottom}"/>')
    middle = (left + right) // 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    for number, (name, points) in enumerate(drawn.items()):
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        parts.append(f'<polyline class="line-{number}" points="{path}"><title>{escape(name)}</title></polyline>')
        if len(points) <= 2 * _TICKS:  # so few that each was measured by itself
            parts += [
                f'<circle class="line-{number}" cx="{across(x):.1f}" cy="{down(y):.1f}" r="3"/>' for x, y in points
            ]
    return "".join([*parts, "</svg>"])


def bar_chart(shares: Mapping[str, float]) -> str:
    """An SVG element of a bar for each share, with its name before and its percentage behind it.

    The longest bar is as wide as there is room. Raises ValueError where a share is negative or not finite.
    """
    if wrong := [name for name, share in shares.items() if not (math.isfinite(share) and share >= 0)]:
        raise ValueError(f"{wrong[0]} has no share that can be drawn.")
    most = max(shares.values(), default=0.0) or 1.0
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_BAR * len(shares)}" role="img">']
    for number, (name, share) in enumerate(shares.items()):
        top, length = _BAR * number, share / most * (_WIDTH - _BEFORE_BAR - _BEHIND_BAR)
        line = top + _BAR / 2 + 4
        parts.append(f'<text x="{_BEFORE_BAR - 6}" y="{line:.1f}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{_BEFORE_BAR}" y="{top + 4}" width="{length:.1f}" height="{_BAR - 8}"/>')
        parts.append(f'<text x="{_BEFORE_BAR + length + 6:.1f}" y="{line:.1f}">{share:.1%}</text>')
    return "".join([*parts, "</svg>"])


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, about `_TICKS` of them and two at least, from one at most `low` to one at least `high`."""
    span = (high - low) or abs(high) or 1.0
    rough = span / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]
