"""The dashboard: Flower with Relevo's pages and drivers. `celery -A tasks flower` starts it.

    a request -> application.py (routes) -> access.py (who is it, what may they do)
              -> a page of pages/, made by handlers.py from the store and the broker (sources.py)
              -> as HTML by a template, or as JSON by json_api.py

Flower is not changed. Its command creates a `flower.command.Flower` and starts it;
`register_dashboard` puts a subclass under that name. `-A` imports the app's module at the right
moment: after `flower.command`, which every celery command imports, and before Flower is created.
"""

from __future__ import annotations

import sys


def register_dashboard() -> None:
    """Make the `flower` command of this process start the dashboard. Without Flower, do nothing."""
    command = sys.modules.get("flower.command")
    if command is not None:
        # Imports Flower and Tornado only if this process uses them.
        from relevo.dashboard.application import Dashboard  # noqa: PLC0415

        command.Flower = Dashboard  # type: ignore[attr-defined]
