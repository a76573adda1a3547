"""Charts as SVG, drawn on the server: the browser needs no library. Pure.

A plot is stretched to the available width. So it contains no text, and its lines don't scale. The
values of a slot are in `data-tip` of an invisible column, which the script shows; a summary is in
the label for screen readers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tornado.escape import xhtml_escape

from relevo import clock
from relevo.dashboard import formatting
from relevo.store.metrics import Point

#: The ranges of a chart: its seconds, and the seconds of one slot.
RANGES = {"1h": (3600, 60), "24h": (86_400, 900), "7d": (604_800, 7200)}
HEIGHT = 100.0
COLUMN_WIDTH = 10.0
MOST_TIMES = 5
# The tops of an axis of durations above a second, in seconds: half of each is a round number, too.
_DURATION_TOPS = (
    2,
    4,
    10,
    20,
    30,
    60,
    120,
    240,
    600,
    1200,
    1800,
    3600,
    7200,
    14_400,
    43_200,
    86_400,
    172_800,
)


@dataclass(frozen=True, slots=True)
class Series:
    """A value for each slot, or None. `look` is a class of the style sheet."""

    name: str
    look: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Slots:
    """The time axis of a chart: the instant at which each slot begins, and a slot's seconds."""

    starts: tuple[int, ...]
    step: int

    @property
    def until(self) -> int:
        return self.starts[-1] + self.step

    def spread(
        self,
        points: Sequence[Point],
        value: Callable[[Point], float | None],
        empty: float | None = None,
    ) -> list[float | None]:
        """The value of each slot's point; `empty` for a slot without one."""
        by_start = {point.minute: value(point) for point in points}
        return [by_start.get(start, empty) for start in self.starts]


def slots(range_name: str, now: float) -> Slots:
    """The slots of a range. The last one is the present."""
    length, step = RANGES[range_name]
    last = int(now) // step * step
    return Slots(tuple(range(last - length + step, last + 1, step)), step)


def bars(title: str, time: Slots, series: Sequence[Series], unit: str) -> str:
    """A chart of stacked columns."""
    totals = [sum(each.values[at] or 0 for each in series) for at in range(len(time.starts))]
    top = _round_up(max(totals, default=0))
    drawn, floor = [], [0.0] * len(totals)
    for each in series:
        parts = []
        for at, value in enumerate(each.values):
            high = HEIGHT * (value or 0) / top
            if high > 0:
                left, bottom = at * COLUMN_WIDTH + 1, HEIGHT - floor[at]
                parts.append(f"M{left:g} {bottom:.2f}v{-high:.2f}h{COLUMN_WIDTH - 2:g}v{high:.2f}z")
                floor[at] += high
        drawn.append(f'<path class="rl-fill {each.look}" d="{"".join(parts)}"/>')
    return _figure(
        title, time, series, "".join(drawn), top, lambda value: f"{formatting.short(value)}", unit
    )


def lines(title: str, time: Slots, series: Sequence[Series]) -> str:
    """A chart of durations as lines, with gaps where no job ran."""
    longest = max(
        (value for each in series for value in each.values if value is not None), default=0
    )
    top = next((step for step in _DURATION_TOPS if step >= longest > 1), None) or _round_up(longest)
    drawn = "".join(
        f'<path class="rl-line {each.look}" d="{_path(each.values, top)}"/>' for each in series
    )
    return _figure(title, time, series, drawn, top, formatting.seconds, "")


def _path(values: Sequence[float | None], top: float) -> str:
    """The line as an SVG path. A lone value becomes a short dash: one point would draw nothing."""
    parts: list[str] = []
    before: float | None = None
    for at, value in enumerate(values):
        if value is not None:
            x, y = (at + 0.5) * COLUMN_WIDTH, HEIGHT * (1 - value / top)
            alone = before is None and (at + 1 == len(values) or values[at + 1] is None)
            parts.append(
                f"M{x - 3:g} {y:.2f}h6"
                if alone
                else f"{'M' if before is None else 'L'}{x:g} {y:.2f}"
            )
        before = value
    return "".join(parts)


def _figure(
    title: str,
    time: Slots,
    series: Sequence[Series],
    drawn: str,
    top: float,
    say: Callable[[float], str],
    unit: str,
) -> str:
    wide = len(time.starts) * COLUMN_WIDTH
    rows = "".join(
        f'<path class="rl-grid" d="M0 {y:g}H{wide:g}"/>' for y in (0, HEIGHT / 2, HEIGHT)
    )
    columns = "".join(
        f'<rect class="rl-hover" x="{at * COLUMN_WIDTH:g}" y="0" width="{COLUMN_WIDTH:g}" '
        f'height="{HEIGHT:g}" data-at="{start}" '
        f'data-tip="{xhtml_escape(_tip(series, at, say, unit))}"/>'
        for at, start in enumerate(time.starts)
    )
    legend = "".join(
        f'<span class="rl-key {each.look}">{xhtml_escape(each.name)}</span>' for each in series
    )
    scale = "".join(f"<span>{xhtml_escape(said)}</span>" for said in (say(top), say(top / 2), "0"))
    times = "".join(
        f'<time data-tick="{time.step}" datetime="{_iso(at)}"></time>' for at in _ticks(time)
    )
    key = "chart-" + "".join(letter if letter.isalnum() else "-" for letter in title.lower())
    label = xhtml_escape(_label(title, series, say, unit))
    return (
        f'<figure class="rl-chart" id="{key}"><figcaption><b>{xhtml_escape(title)}</b>'
        f'<span class="rl-legend">{legend}</span><output class="rl-readout"></output></figcaption>'
        f'<div class="rl-plot"><div class="rl-y" aria-hidden="true">{scale}</div>'
        f'<svg viewBox="0 -1 {wide:g} {HEIGHT + 2:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}">{rows}{drawn}{columns}</svg>'
        f'<div class="rl-x" aria-hidden="true">{times}</div></div></figure>'
    )


def _label(title: str, series: Sequence[Series], say: Callable[[float], str], unit: str) -> str:
    said = []
    for each in series:
        there = [value for value in each.values if value is not None]
        said.append(
            f"{each.name}: "
            + (
                f"at most {say(max(there))}{unit}, last {say(there[-1])}{unit}"
                if there
                else "nothing"
            )
        )
    return f"{title}. {'; '.join(said)}"


def _tip(series: Sequence[Series], at: int, say: Callable[[float], str], unit: str) -> str:
    said = [
        f"{each.name} {say(value)}{unit}"
        for each in series
        if (value := each.values[at]) is not None
    ]
    return ", ".join(said) or "no jobs"


def _ticks(time: Slots) -> list[int]:
    apart = max(1, len(time.starts) // (MOST_TIMES - 1))
    return [*time.starts[::apart][: MOST_TIMES - 1], time.until]


def _iso(instant: int) -> str:
    return clock.utc(instant).isoformat()


def _round_up(value: float) -> float:
    """The next round number: 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return next(size * step for step in (1, 2, 5, 10) if size * step >= value * 0.999)
