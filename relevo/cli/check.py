"""`celery -A tasks check`: is everything there that jobs need, and if not, what to do. For deploys
and for people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from relevo.cli import health_checks
from relevo.cli.health_checks import OK, WARNING, WRONG, Finding
from relevo.cli.output import json_option, one_line_errors, printable, say_json, some

_WIDTHS = (len(WARNING), 10)
# What to do where a look itself failed.
_MEND = {
    "broker": "start it, or correct its url (docs/settings.md)",
    "database": "start it, or correct DATABASE_URL (docs/settings.md)",
    "results": "correct QUEUE_RESULTS (docs/settings.md)",
    "disks": "correct FILES_DISK and its companions (docs/settings.md), or the rights on the folder",
    "schedule": "correct beat_schedule (docs/schedule.md)",
    "mail": "correct MAIL_URL (docs/settings.md); mail waits until then",
}


@click.command("check")
@json_option
@click.pass_context
@one_line_errors
def check(context: click.Context, as_json: bool) -> None:
    """Look at settings, broker, database, results, disks, mail, workers and schedule: what is
    wrong, what to do.

    Exit code 1 when something is wrong; a warning is none.
    """
    if getattr(context.obj.app, "settings", None) is None:
        raise click.UsageError(
            "this app has no settings of ours: it was not made by `relevo.create_app`"
        )
    findings = [finding for look in health_checks.ALL for finding in _looked(look, context)]
    if as_json:
        say_json([asdict(finding) for finding in findings])
    else:
        for line in _lines(findings):
            click.echo(line)
    if any(finding.state == WRONG for finding in findings):
        raise click.exceptions.Exit(1)


def _looked(look: Any, context: click.Context) -> Iterator[Finding]:
    """What a look finds; one that fails has found something wrong."""
    name = look.__name__
    try:
        yield from look(context)
    except Exception as error:  # noqa: BLE001  whatever it is, it is what this command is for
        yield Finding(name, WRONG, f"{type(error).__name__}: {error}", _MEND.get(name))


def _lines(findings: list[Finding]) -> Iterator[str]:
    state, what = _WIDTHS
    for finding in findings:
        yield f"{finding.state:{state}}  {finding.what:{what}}  {printable(finding.found)}"
        if finding.todo:
            yield f"{'':{state}}  {'':{what}}  -> {printable(finding.todo)}"
    counts = {
        kind: sum(finding.state == kind for finding in findings) for kind in (WRONG, WARNING, OK)
    }
    yield f"{counts[WRONG]} wrong, {some(counts[WARNING], 'warning')}, {counts[OK]} ok."
