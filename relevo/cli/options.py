"""Options that several commands share: durations, hours, and the selection of jobs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# A longer duration is a typing error; a date 8,000 years ahead can't even be printed.
_LONGEST_DAYS = 36_500


class Duration(click.ParamType[float]):
    """`90`, `90s`, `15m`, `4h`, `2d`: seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhd]?)", str(value).strip())
        if found is None or not float(found[1]):
            self.fail(f"expected a duration such as 90, 15m, 4h or 2d, got {value!r}", param, ctx)
        seconds = float(found[1]) * _UNITS[found[2] or "s"]
        if seconds > _LONGEST_DAYS * _UNITS["d"]:
            self.fail(f"expected a duration of at most {_LONGEST_DAYS}d, got {value!r}", param, ctx)
        return seconds


class Hours(click.ParamType[float]):
    """A number of hours. `nan` is refused: it compares as neither older nor younger than a job."""

    name = "hours"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, int | float):
            return float(value)
        if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,6})?", str(value).strip()):
            self.fail(f"expected a number of hours such as 48 or 0.5, got {value!r}", param, ctx)
        return float(value)


def which_jobs(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--queue`, `--task` and `--tag`."""
    for name, help_ in (
        ("tag", "Only jobs with this tag."),
        ("task", "Only jobs of this task."),
        ("queue", "Only jobs of this queue."),
    ):
        command = click.option(f"--{name}", help=help_)(command)
    return command


#: The number of a row in the store.
ROW = click.IntRange(1, 10**18)

limit_option = click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="The most rows to show.",
)
