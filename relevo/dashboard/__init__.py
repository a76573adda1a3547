"""The dashboard: Flower, on our drivers. `celery -A tasks flower` starts it.

Flower is not changed. Its command makes a `flower.command.Flower` and starts it; `install` puts
ours, a subclass, in that name's place. The app's module is imported by `-A` in between: after
`flower.command`, which every celery command imports, and before Flower is made.
"""

from __future__ import annotations

import sys


def install() -> None:
    """Let the `flower` command of this process start our dashboard. Without Flower it does nothing."""
    command = sys.modules.get("flower.command")
    if command is not None:
        # Flower and Tornado only where they are used
        from relevo.dashboard.application import Dashboard  # noqa: PLC0415

        command.Flower = Dashboard  # type: ignore[attr-defined]
