"""Charts as SVG, drawn here: no script draws, and there is nothing to load. Pure.

The plot is stretched to the width there is; so that nothing is distorted it holds no text and no
line that scales. What a slot holds stands in `data-tip` of an invisible column, for the script to
show, and in the picture's label for those who don't see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tornado.escape import xhtml_escape

from relevo import clock
from relevo.dashboard import formatting
from relevo.store.metrics import Point

#: How long a chart can be: its seconds, and those of one slot.
RANGES = {"1h": (3600, 60), "24h": (86_400, 900), "7d": (604_800, 7200)}
TALL = 100.0
COLUMN = 10.0
SHOWN_TIMES = 5
# The tops of an axis of durations past a second: a half of each reads well, too.
_LONG = (
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
    """A value a slot, None where there is none. `look` is a class of the style sheet."""

    name: str
    look: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Slots:
    """The time of a chart: the instant at which each slot begins."""

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
        """The value of each slot's point; `empty` where no job ended."""
        by_start = {point.minute: value(point) for point in points}
        return [by_start.get(start, empty) for start in self.starts]


def slots(range_name: str, now: float) -> Slots:
    """The slots of a range, the last of which is the present one."""
    length, step = RANGES[range_name]
    last = int(now) // step * step
    return Slots(tuple(range(last - length + step, last + 1, step)), step)


def bars(title: str, time: Slots, series: Sequence[Series], unit: str) -> str:
    """Columns that stand on one another."""
    totals = [sum(each.values[at] or 0 for each in series) for at in range(len(time.starts))]
    top = _nice(max(totals, default=0))
    drawn, floor = [], [0.0] * len(totals)
    for each in series:
        parts = []
        for at, value in enumerate(each.values):
            high = TALL * (value or 0) / top
            if high > 0:
                parts.append(
                    f"M{at * COLUMN + 1:g} {TALL - floor[at]:.2f}v{-high:.2f}h{COLUMN - 2:g}v{high:.2f}z"
                )
                floor[at] += high
        drawn.append(f'<path class="rl-fill {each.look}" d="{"".join(parts)}"/>')
    return _figure(
        title, time, series, "".join(drawn), top, lambda value: f"{formatting.short(value)}", unit
    )


def lines(title: str, time: Slots, series: Sequence[Series]) -> str:
    """Durations as lines, with gaps where nothing ran."""
    longest = max(
        (value for each in series for value in each.values if value is not None), default=0
    )
    top = next((step for step in _LONG if step >= longest > 1), None) or _nice(longest)
    drawn = "".join(
        f'<path class="rl-line {each.look}" d="{_path(each.values, top)}"/>' for each in series
    )
    return _figure(title, time, series, drawn, top, formatting.seconds, "")


def _path(values: Sequence[float | None], top: float) -> str:
    """A lone value is a short dash: a path of one point draws nothing."""
    parts: list[str] = []
    before: float | None = None
    for at, value in enumerate(values):
        if value is not None:
            x, y = (at + 0.5) * COLUMN, TALL * (1 - value / top)
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
    wide = len(time.starts) * COLUMN
    rows = "".join(f'<path class="rl-grid" d="M0 {y:g}H{wide:g}"/>' for y in (0, TALL / 2, TALL))
    columns = "".join(
        f'<rect class="rl-hover" x="{at * COLUMN:g}" y="0" width="{COLUMN:g}" height="{TALL:g}" data-at="{start}" '
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
    return (
        f'<figure class="rl-chart" id="{key}"><figcaption><b>{xhtml_escape(title)}</b>'
        f'<span class="rl-legend">{legend}</span><output class="rl-readout"></output></figcaption>'
        f'<div class="rl-plot"><div class="rl-y" aria-hidden="true">{scale}</div>'
        f'<svg viewBox="0 -1 {wide:g} {TALL + 2:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{xhtml_escape(_label(title, series, say, unit))}">{rows}{drawn}{columns}</svg>'
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
    apart = max(1, len(time.starts) // (SHOWN_TIMES - 1))
    return [*time.starts[::apart][: SHOWN_TIMES - 1], time.until]


def _iso(instant: int) -> str:
    return clock.utc(instant).isoformat()


def _nice(value: float) -> float:
    """The round number above it: 1, 2 or 5 with zeros."""
    if value <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return next(size * step for step in (1, 2, 5, 10) if size * step >= value * 0.999)
