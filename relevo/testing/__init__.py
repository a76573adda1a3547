"""For tests of one's own jobs: nothing is sent, what was dispatched is asserted, and jobs run in
this process.

    with fake() as queue:
        upload(picture)
        queue.assert_dispatched_on("high", "images.process", args=(7,))
        queue.drain()

docs/testing.md has an example of every word. The names are looked up at first use: pytest loads the
plugin beside this page in every project where Relevo is installed, and must not load Celery for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relevo.testing.attempt import Attempt
    from relevo.testing.disk import FakeDisk, fake_disk
    from relevo.testing.dispatched import Dispatched
    from relevo.testing.fake import Fake, fake
    from relevo.testing.groups import DispatchedGroup
    from relevo.testing.mail import FakeMail, fake_mail

_HOMES = {
    "Attempt": "attempt",
    "Dispatched": "dispatched",
    "DispatchedGroup": "groups",
    "Fake": "fake",
    "FakeDisk": "disk",
    "FakeMail": "mail",
    "fake": "fake",
    "fake_disk": "disk",
    "fake_mail": "mail",
}

__all__ = [
    "Attempt",
    "Dispatched",
    "DispatchedGroup",
    "Fake",
    "FakeDisk",
    "FakeMail",
    "fake",
    "fake_disk",
    "fake_mail",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
