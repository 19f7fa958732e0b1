"""Charts as SVG, made here: a page needs no script for them.

Positions across are percentages and heights are pixels, so that a chart fits any width and its text
does not shrink. Colours are those of Okabe and Ito, which people with colour vision deficiency tell
apart (https://jfly.uni-koeln.de/color/), and each has a pattern of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ...admin.presentation import number

_TOP, _TALL, _BELOW = 18, 140, 20
"""Pixels above the bars, of the highest bar, and below."""

_WIDTH = 0.8
"""Width of a bar, as part of what it may have."""


@dataclass(frozen=True, slots=True)
class Series:
    """One part of each bar.

    :ivar name: selects its colour and pattern
    :ivar title: for people
    """

    name: str
    title: Any


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    :ivar label: what it is about
    :ivar values: one for each series
    :ivar tick: what stands below it; may be empty
    """

    label: str
    values: Sequence[float]
    tick: str = ""


def chart(
    name: str,
    title: Any,
    described: Any,
    series: Sequence[Series],
    bars: Sequence[Bar],
    top: int = 0,
) -> SafeString:
    """Return stacked bars.

    :param name: no other chart of the page has it
    :param title: what a screen reader says first
    :param described: what it says next
    :param top: value at the upper edge; the bars decide if it is 0
    """
    highest = top or _round_up(max((sum(bar.values) for bar in bars), default=0))
    step = 100 / max(1, len(bars))
    parts = (
        ([_bar(bar, series, step * index, step, highest)] for index, bar in enumerate(bars)),
        ([_line(_height(value, highest))] for value in (highest, highest / 2)),
        [
            *([_value(value, highest)] for value in (highest, highest / 2)),
            *([_tick(bar, index, len(bars), step)] for index, bar in enumerate(bars) if bar.tick),
        ],
    )
    drawn, lines, labels = (format_html_join("", "{}", part) for part in parts)
    return format_html(
        '<svg class="idempotency-chart" width="100%" height="{}" role="img" '
        'aria-labelledby="{}-title {}-about"><title id="{}-title">{}</title>'
        '<desc id="{}-about">{}</desc>{}{}'
        '<line class="idempotency-axis" x1="0" x2="100%" y1="{}" y2="{}"/>{}</svg>',
        *(_TOP + _TALL + _BELOW, name, name, name, title, name, described),
        *(lines, drawn, _TOP + _TALL, _TOP + _TALL, labels),
    )


def _bar(bar: Bar, series: Sequence[Series], left: float, step: float, highest: float) -> Any:
    foot, pieces = float(_TOP + _TALL), []
    for each, value in zip(series, bar.values, strict=True):
        height = value / highest * _TALL
        foot -= height
        if value:
            pieces.append((each.name, f"{foot:.2f}", f"{height:.2f}"))
    across = f"{left + step * (1 - _WIDTH) / 2:.3f}%", f"{step * _WIDTH:.3f}%"
    rectangles = format_html_join(
        "",
        '<rect fill="url(#idempotency-{})" x="{}" width="{}" y="{}" height="{}"/>',
        ((name, *across, above, height) for name, above, height in pieces),
    )
    both = zip(series, bar.values, strict=True)
    said = [f"{each.title} {number(int(value))}" for each, value in both if value]
    title = f"{bar.label}: {', '.join(said) or number(0)}"
    # What is pointed at is as high as the chart, so that low bars are found, too.
    return format_html(
        '<g><title>{}</title><rect fill="transparent" x="{}" width="{}" y="{}" height="{}"/>{}</g>',
        *(title, f"{left:.3f}%", f"{step:.3f}%", _TOP, _TALL, rectangles),
    )


def _tick(bar: Bar, index: int, count: int, step: float) -> SafeString:
    anchor = "start" if index == 0 else "end" if index == count - 1 else "middle"
    place = {"start": 0.0, "end": 100.0, "middle": step * (index + 0.5)}[anchor]
    text = '<text x="{}%" y="{}" text-anchor="{}">{}</text>'
    return format_html(text, f"{place:.3f}", _TOP + _TALL + 15, anchor, bar.tick)


def _height(value: float, highest: float) -> float:
    return _TOP + _TALL - value / highest * _TALL


def _line(height: float) -> SafeString:
    line = '<line class="idempotency-grid" x1="0" x2="100%" y1="{}" y2="{}"/>'
    return format_html(line, height, height)


def _value(value: float, highest: float) -> SafeString:
    shown = number(round(value))
    return format_html('<text x="0" y="{}">{}</text>', _height(value, highest) - 4, shown)


def _round_up(value: float) -> int:
    """Return a round number, not less than a value, of which the half is a whole one, too."""
    if value <= 2:
        return 2
    power = 10 ** floor(log10(value))
    steps = (1, 2, 4, 6, 8, 10) if power == 1 else (1, 1.6, 2, 3, 4, 5, 6, 8, 10)
    found: int = round(next(step * power for step in steps if step * power >= value))
    return found


def swatch(name: str) -> SafeString:
    """Return a small field in the colour and pattern of a series."""
    return format_html(
        '<svg class="idempotency-swatch" width="14" height="14" aria-hidden="true">'
        '<rect fill="url(#idempotency-{})" width="14" height="14"/></svg>',
        name,
    )


_MARKS = (
    "",
    "M0 6L6 0",
    "M1 1h2v2h-2zM4 4h2v2h-2z",
    "M0 0L6 6",
    "M0 3H6",
    "M3 0V6",
    "M0 3H6M3 0V6",
    "M0 0L6 6M0 6L6 0",
    "M2 2h2v2h-2z",
)


def patterns(names: Iterable[str]) -> SafeString:
    """Return what the parts of bars are filled with; it stands once in a page.

    :param names: of series, at most as many as there are patterns
    """
    return format_html(
        '<svg class="idempotency-patterns" width="0" height="0" aria-hidden="true">{}</svg>',
        format_html_join(
            "",
            '<pattern id="idempotency-{}" width="6" height="6" patternUnits="userSpaceOnUse">'
            '<rect class="idempotency-fill-{}" width="6" height="6"/>'
            '<path class="idempotency-mark" d="{}"/></pattern>',
            ((name, name, mark) for name, mark in zip(names, _MARKS, strict=False)),
        ),
    )
