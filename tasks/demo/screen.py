"""The output of the demo: a progress bar and a table; without a terminal a line a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 120  # columns of a file or a pipe


@dataclass(frozen=True)
class Line:
    """One picture in the table."""

    name: str
    size: int
    versions: list[tuple[str, int, int, int]]  # name, width, height, bytes
    seconds: float | None
    error: str | None
    ended: bool = True


class Screen:
    """The progress bar, within a `with` block, and the lines around it."""

    def __init__(self, total: int) -> None:
        console = Console()
        self.console = console if console.is_terminal else Console(width=PLAIN_WIDTH)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=self.console, disable=not console.is_terminal)
        self._bar = self._progress.add_task("starting the worker", total=total)
        self._total, self._done = total, 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def doing(self, what: str) -> None:
        self._progress.update(self._bar, description=what)

    def done(self, name: str, error: str | None) -> None:
        """Count one more ended picture."""
        self._done += 1
        self._progress.update(self._bar, completed=self._done)
        if self._progress.disable:
            self.say(f"[{self._done}/{self._total}] {name}{': ' + error if error else ''}")

    def say(self, text: str) -> None:
        """Print a line without markup: square brackets in a path are no colour."""
        self.console.print(Text(text), soft_wrap=True)

    def table(self, lines: Iterable[Line]) -> None:
        table = Table("file", "bytes", "versions", "ms", box=box.SIMPLE, highlight=False)
        table.columns[0].overflow = table.columns[2].overflow = "fold"
        table.columns[1].justify = table.columns[3].justify = "right"
        for line in lines:
            table.add_row(*map(Text, _cells(line)), style="red" if line.error else "")
        self.console.print(table)


def _cells(line: Line) -> Iterator[str]:
    """The cells of a row, for 80 columns. An error takes the place of the versions."""
    yield line.name
    yield f"{line.size:,}"
    yield line.error or "\n".join(
        map(_version, sorted(line.versions, key=lambda version: -max(version[1:3])))
    )
    yield "" if line.seconds is None else f"{line.seconds * 1000:,.0f}"


def _version(version: tuple[str, int, int, int]) -> str:
    name, width, height, size = version
    return f"{name:<9} {f'{width}x{height}':>9} {size:>9,}"
