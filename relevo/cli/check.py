"""`celery -A tasks check`: does everything that jobs need work, and if not, what to do about it.

The checks themselves are in `relevo/cli/health_checks.py`; here they are run and printed.
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
# What to do about a check that itself raised an error.
_REMEDIES = {
    "broker": "start it, or correct its url (docs/settings.md)",
    "database": "start it, or correct DATABASE_URL (docs/settings.md)",
    "results": "correct QUEUE_RESULTS (docs/settings.md)",
    "disks": "correct the FILES_… settings (docs/settings.md), or the rights on the folder",
    "schedule": "correct beat_schedule (docs/schedule.md)",
    "mail": "correct MAIL_URL (docs/settings.md); mail waits until then",
}


@click.command("check")
@json_option
@click.pass_context
@one_line_errors
def check(context: click.Context, as_json: bool) -> None:
    """Check settings, broker, database, results, disks, mail, workers and schedule, and say what to
    do about problems.

    Exit code 1 if something is wrong; a warning alone is exit code 0.
    """
    if getattr(context.obj.app, "settings", None) is None:
        raise click.UsageError("this app has no settings: it was not made by `relevo.create_app`")
    findings = [finding for run in health_checks.ALL for finding in _findings(run, context)]
    if as_json:
        say_json([asdict(finding) for finding in findings])
    else:
        for line in _lines(findings):
            click.echo(line)
    if any(finding.state == WRONG for finding in findings):
        raise click.exceptions.Exit(1)


def _findings(check: Any, context: click.Context) -> Iterator[Finding]:
    """The findings of one check. An error that the check raises is a finding, too."""
    name = check.__name__
    try:
        yield from check(context)
    except Exception as error:  # noqa: BLE001  any error of a server is a finding
        yield Finding(name, WRONG, f"{type(error).__name__}: {error}", _REMEDIES.get(name))


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
