"""Output of all commands: a table or JSON, a question before a deletion, an error on one line."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import click

from relevo import clock
from relevo.errors import RelevoError

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
yes_option = click.option("--yes", is_flag=True, help="Don't ask.")

# In characters. JSON has the complete text.
LONGEST_CELL = 60

# Anyone who can dispatch a job writes into these tables: no character of theirs may move the cursor
# or start a new line.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def show(rows: Sequence[dict[str, Any]], as_json: bool, empty: str) -> None:
    """Print rows as JSON, or as a table headed by their keys; `empty` is printed for no rows."""
    if as_json:
        say_json(list(rows))
    elif not rows:
        click.echo(empty)
    else:
        for line in table(rows):
            click.echo(line)


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of a table: the head, then a line for each row. Numbers are aligned right."""
    heads = list(rows[0])
    cells = [[_cell(row[head]) for head in heads] for row in rows]
    widths = [max(len(head), *(len(line[at]) for line in cells)) for at, head in enumerate(heads)]
    right = [all(isinstance(row[head], int | float | None) for row in rows) for head in heads]
    return [
        _line([head.upper() for head in heads], widths, right),
        *(_line(line, widths, right) for line in cells),
    ]


def show_one(fields: dict[str, Any], as_json: bool) -> None:
    """Print one object: as JSON, or a line for each field. Text of several lines stands below its
    name.
    """
    if as_json:
        say_json(fields)
        return
    width = max(map(len, fields))
    for name, value in fields.items():
        lines = [printable(line) for line in text_of(value).splitlines()]
        if len(lines) > 1:
            click.echo("\n".join([name, *(f"  {line}" for line in lines)]))
        else:
            click.echo(f"{name.ljust(width)}  {''.join(lines)}".rstrip())


def say(line: str, as_json: bool, **facts: Any) -> None:
    """Print what was done: `line` for people, or `facts` as JSON."""
    if as_json:
        say_json(facts)
    else:
        click.echo(line)


def say_json(value: Any) -> None:
    click.echo(json.dumps(_finite(value), indent=2, default=str))


def _finite(value: Any) -> Any:
    """The value with None for infinities and NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def complain(line: str) -> None:
    """Print what could not be done, on stderr."""
    click.echo(printable(line), err=True)


def moment(instant: float | None) -> str | None:
    """An instant as text: ISO 8601, UTC, to the second."""
    return None if instant is None else clock.utc(instant).isoformat(timespec="seconds")


def some(count: int, what: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def text_of(value: Any) -> str:
    """A value for people: an empty text for None, commas between the items of a list."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(text_of, value))
    return "" if value is None else str(value)


def printable(text: str) -> str:
    """A text on one line, its invisible characters escaped."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _cell(value: Any) -> str:
    text = printable(text_of(value))
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(padded).rstrip()


def confirm(question: str, yes: bool) -> None:
    """Ask, unless `--yes` was given. The answer no ends the command with exit code 1."""
    if not yes:
        click.confirm(question, abort=True, err=True)


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator: a RelevoError becomes one line on stderr and exit code 1."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except RelevoError as error:
            raise click.ClickException(printable(str(error))) from error

    return run
