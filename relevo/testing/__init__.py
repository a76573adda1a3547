"""For tests of an application's jobs: nothing is sent, dispatches are asserted, and jobs run in the
test's process.

    with fake() as queue:
        upload(picture)
        queue.assert_dispatched_on("high", "images.process", args=(7,))
        queue.drain()

docs/testing.md has an example of every method. The names are imported at first use: pytest loads
the plugin in every project where Relevo is installed, and must not load Celery with it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relevo.testing.alerts import FakeAlerts, fake_alerts
    from relevo.testing.attempt import Attempt
    from relevo.testing.disk import FakeDisk, fake_disk
    from relevo.testing.dispatched import Dispatched
    from relevo.testing.fake_batch import FakeBatch
    from relevo.testing.fake_queue import Fake, fake
    from relevo.testing.groups import DispatchedGroup
    from relevo.testing.mail import FakeMail, fake_mail

_HOMES = {
    "Attempt": "attempt",
    "Dispatched": "dispatched",
    "DispatchedGroup": "groups",
    "Fake": "fake_queue",
    "FakeAlerts": "alerts",
    "FakeBatch": "fake_batch",
    "FakeDisk": "disk",
    "FakeMail": "mail",
    "fake": "fake_queue",
    "fake_alerts": "alerts",
    "fake_disk": "disk",
    "fake_mail": "mail",
}

__all__ = [
    "Attempt",
    "Dispatched",
    "DispatchedGroup",
    "Fake",
    "FakeAlerts",
    "FakeBatch",
    "FakeDisk",
    "FakeMail",
    "fake",
    "fake_alerts",
    "fake_disk",
    "fake_mail",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
