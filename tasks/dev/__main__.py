"""python -m tasks.dev [NAME …]: runs all programs of the Procfile, or the named ones. Ctrl-C stops
them warmly.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

import watchfiles
from rich.console import Console
from rich.text import Text

from tasks.dev.program import Program

ROOT = Path(__file__).parents[2]
WATCHED = ("relevo", "tasks", "app", "web", "celeryconfig.py", "beat_schedule.py", ".env")
COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red")
_LINE = re.compile(r"([a-z][a-z0-9-]*):\s*(.+)")


class Screen:
    """Prints the programs' lines, each after its program's name and in its colour."""

    def __init__(self, names: Iterable[str]) -> None:
        self._console, self._lock = Console(highlight=False, soft_wrap=True), threading.Lock()
        self._colours = dict(zip(names, itertools.cycle(COLOURS), strict=False))
        self._width = max(map(len, self._colours))

    def say(self, name: str, line: str) -> None:
        with self._lock:
            self._console.print(
                Text(f"{name:<{self._width}} | ", self._colours.get(name, ""))
                + Text.from_ansi(line)
            )


def lines(procfile: Path) -> dict[str, str]:
    """The programs of a Procfile: name -> command."""
    found = (_LINE.fullmatch(line.strip()) for line in procfile.read_text().splitlines())
    return {match[1]: match[2] for match in found if match}


def main(wanted: list[str]) -> int:
    known = lines(ROOT / "Procfile")
    if unknown := [name for name in wanted if name not in known]:
        sys.stderr.write(
            f"expected names of the Procfile ({', '.join(known)}), got {', '.join(unknown)}\n"
        )
        return 2
    chosen = {name: command for name, command in known.items() if not wanted or name in wanted}
    screen, stopping = Screen(chosen), threading.Event()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    programs = [Program(name, command, screen.say, environment) for name, command in chosen.items()]

    def end(_signum: int, _frame: FrameType | None) -> None:
        stopping.set()

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, end)
    for program in programs:
        program.start()
    watch(programs, screen, stopping)
    for ending in [threading.Thread(target=program.stop) for program in programs]:
        ending.start()
    return 0


def watch(programs: list[Program], screen: Screen, stopping: threading.Event) -> None:
    """Restart all programs whenever a source file changes, until `stopping` is set."""
    watched = [ROOT / name for name in WATCHED if (ROOT / name).exists()]
    for changes in watchfiles.watch(
        *watched, watch_filter=_counts, stop_event=stopping, raise_interrupt=False
    ):
        names = sorted({Path(path).name for _, path in changes})
        screen.say(programs[0].name, f"{', '.join(names[:3])} changed: everything starts again")
        for program in programs:
            program.restart()


def _counts(_change: watchfiles.Change, path: str) -> bool:
    return (
        path.endswith((".py", ".lua", ".sql", ".html", ".txt", ".env"))
        and "__pycache__" not in path
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
