"""How a command (`celery -A …`) ends that can't begin: one line on stderr, and exit code 2."""

from __future__ import annotations

import click

EXIT_MISUSED = 2


def end_command(message: str) -> None:
    """End the command that is running, if one is. It must be SystemExit: Celery catches every
    Exception of `-A`.
    """
    if click.get_current_context(silent=True) is not None:
        click.echo(f"Error: {message}", err=True)
        raise SystemExit(EXIT_MISUSED)
