"""How the commands speak: a table or JSON, a question before anything is destroyed, one line for an error."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import click

from relevo.errors import RelevoError

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines instead of a table.")
yes_option = click.option("--yes", is_flag=True, help="Don't ask.")


def show(rows: Sequence[dict[str, Any]], as_json: bool, empty: str) -> None:
    """Print rows as JSON, or as a table with their keys as its head."""
    if as_json:
        click.echo(json.dumps(list(rows), indent=2, default=str))
    elif not rows:
        click.echo(empty)
    else:
        for line in table(rows):
            click.echo(line)


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of a table: its head, then a line a row; numbers to the right."""
    heads = list(rows[0])
    cells = [["" if row[head] is None else str(row[head]) for head in heads] for row in rows]
    widths = [max(len(head), *(len(line[at]) for line in cells)) for at, head in enumerate(heads)]
    right = [all(isinstance(row[head], int | float | None) for row in rows) for head in heads]
    return [_line([head.upper() for head in heads], widths, right), *(_line(line, widths, right) for line in cells)]


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(padded).rstrip()


def confirm(question: str, yes: bool) -> None:
    """Ask, unless `--yes` was given; whoever says no ends the command with exit code 1."""
    if not yes:
        click.confirm(question, abort=True)


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """An error of ours is one line on stderr and exit code 1."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except RelevoError as error:
            raise click.ClickException(str(error)) from error

    return run
