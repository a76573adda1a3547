"""Formats values for pages: times, durations, numbers, long texts. Templates call it `ui`. Pure."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlencode

from relevo import clock
from relevo.database.text import storable

_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
# A longer duration, or one that is no number, says no more than this: a time was far off.
_AGES_SECONDS, _AGES = 3.2e10, "> 1,000 years"
LONGEST = 20_000
# Characters that reverse the direction of text (txt.exe would read as exe.txt) are shown by number.
_HIDDEN = {
    code: f"\u27e8{code:04X}\u27e9" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
NOTHING = "\u2013"


def number(value: float | None) -> str:
    """1234567 as 1,234,567; a fraction with one digit."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if 0 < value < 0.05:  # noqa: PLR2004
        return "< 0.1"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}"  # noqa: PLR2004


def short(value: float) -> str:
    """1234567 as 1.23M: for the axis of a chart."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def seconds(value: float | None) -> str:
    """A duration: 12 ms, 3.4 s, 5 min 20 s, 2 h 10 min, 3 d 4 h."""
    if value is None:
        return NOTHING
    if not value < _AGES_SECONDS:
        return _AGES
    if value < 1:
        return f"{value * 1000:.0f} ms" if value >= 0.001 or value == 0 else "< 1 ms"  # noqa: PLR2004
    for size, unit, part, part_unit in _UNITS:
        if value >= size:
            whole, rest = divmod(round(value / part) * part, size)
            return f"{whole:.0f} {unit}" + (f" {rest / part:.0f} {part_unit}" if rest else "")
    return f"{value:.3g} s"


def percent(part: float, whole: float) -> str:
    """A share in percent. A small one is shown as `< 0.1 %`, not as 0."""
    if not whole:
        return NOTHING
    share = 100 * part / whole
    return (
        "< 0.1 %" if 0 < share < 0.1 else f"{share:.1f} %" if 0 < share < 10 else f"{share:.0f} %"  # noqa: PLR2004
    )


def when(instant: float | None, relative: bool = True) -> str:
    """HTML of an instant, in UTC. The script changes it to the viewer's time zone."""
    if instant is None:
        return NOTHING
    moment = clock.utc(instant)
    kind = ' data-relative=""' if relative else ""
    iso = moment.isoformat(timespec="milliseconds")
    return f'<time datetime="{iso}"{kind}>{moment:%Y-%m-%d %H:%M:%S} UTC</time>'


def cut(text: Any, longest: int = LONGEST) -> str:
    """A text of at most `longest` characters, with the number of those that were left out."""
    # `storable` removes half a surrogate, which JSON may contain but UTF-8 may not.
    shown = storable(text).translate(_HIDDEN)
    return (
        shown
        if len(shown) <= longest
        else f"{shown[:longest]} … and {len(shown) - longest:,} more characters"
    )


def clip(text: Any, longest: int = 140) -> str:
    """The beginning of a text. The rest is on the page of the job."""
    shown = storable(str(text)[: longest + 1]).translate(_HIDDEN)
    return shown if len(shown) <= longest else f"{shown[:longest]}…"


def query(path: str, **values: Any) -> str:
    """A url with these parameters, without those that are None or empty."""
    said = {name: value for name, value in values.items() if value not in (None, "")}
    return f"{path}?{urlencode(said)}" if said else path


def counted(count: int, noun: str) -> str:
    """1 job, 2 jobs."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
