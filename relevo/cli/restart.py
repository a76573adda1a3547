"""`celery -A tasks restart`: every worker finishes its running jobs and starts again, with the
present code.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from relevo.cli.context import driver_of
from relevo.cli.options import Duration
from relevo.cli.output import complain, json_option, one_line_errors, show, some

FINISHING, ANEW, ENDS, REFUSED = "finishing", "started anew", "ends", "doesn't know how"
REPLY_SECONDS = 2.0


@click.command("restart")
@click.argument("workers", nargs=-1, metavar="[WORKER…]")
@click.option(
    "--wait",
    type=Duration(),
    help="Wait until all have started again, at most 90 (seconds), 15m, 4h or 2d.",
)
@json_option
@click.pass_context
@one_line_errors
def restart(
    context: click.Context, workers: tuple[str, ...], wait: float | None, as_json: bool
) -> None:
    """Every worker, or each named one, finishes its running jobs and starts again with the present
    code.

    No job is lost and none runs twice. A worker keeps its process id, so its supervisor does not
    notice.
    """
    driver_of(context).paused()  # Raises an error if the broker is away or not one of Relevo's.
    app = context.obj.app
    answers = _ask(app, "restart_worker", workers)
    rows = [_row(name, answer) for name, answer in sorted(answers)]
    if wait is not None and rows:
        _await(app, rows, {answer.get("life") for _, answer in answers}, wait)
    show(
        [{name: value for name, value in row.items() if name != "life"} for row in rows],
        as_json,
        empty="No worker has answered.",
    )
    missing = sorted(set(workers) - {name for name, _ in answers})
    for name in missing:
        complain(f"worker {name} has not answered")
    late = [
        row
        for row in rows
        if row["state"] == REFUSED or (wait is not None and row["state"] == FINISHING)
    ]
    if late:
        names_of_late = ", ".join(row["worker"] for row in late)
        complain(f"{some(len(late), 'worker')} not started anew: {names_of_late}")
    if not rows or late or missing:
        raise click.exceptions.Exit(1)


def _ask(
    app: Any, command: str, workers: tuple[str, ...], seconds: float = REPLY_SECONDS
) -> list[tuple[str, Any]]:
    """Each worker's name and answer. Two workers of one name answer twice."""
    answers = (
        app.control.broadcast(
            command, reply=True, timeout=seconds, destination=list(workers) or None
        )
        or []
    )
    pairs = [(name, answer) for each in answers for name, answer in each.items()]
    return [(name, answer if isinstance(answer, Mapping) else {}) for name, answer in pairs]


def _row(name: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    knows = "life" in answer
    state = REFUSED if not knows else FINISHING if answer.get("comes_back") else ENDS
    return {
        "worker": name,
        "pid": answer.get("pid"),
        "running": answer.get("running"),
        "state": state,
    }


def _await(app: Any, rows: list[dict[str, Any]], old: set[Any], seconds: float) -> None:
    """Wait until a new generation of each restarting worker has answered; update its row."""
    deadline, seen = time.monotonic() + seconds, set(old)
    while any(row["state"] == FINISHING for row in rows) and time.monotonic() < deadline:
        for name, answer in _ask(app, "worker_life", (), min(1.0, seconds)):
            if answer.get("life") in seen or "life" not in answer:
                continue
            seen.add(answer["life"])
            row = next(
                (row for row in rows if row["worker"] == name and row["state"] == FINISHING), None
            )
            if row is not None:
                row["state"], row["pid"] = ANEW, answer.get("pid")
