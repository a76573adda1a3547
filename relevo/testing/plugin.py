"""The pytest plugin: fixtures `fake_queue`, `fake_disk`, `fake_mail` and `fake_alerts`. It loads
Celery only when one of them is used.

A project whose app is not Celery's current one returns it from its own fixture `relevo_app`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from relevo.testing.alerts import FakeAlerts
    from relevo.testing.disk import FakeDisk
    from relevo.testing.fake_queue import Fake
    from relevo.testing.mail import FakeMail


@pytest.fixture
def relevo_app() -> Any:
    """The app to fake; None is Celery's current one."""
    return None


@pytest.fixture
def fake_queue(relevo_app: Any) -> Iterator[Fake]:
    """During the test no job is sent; dispatched jobs can be asserted and run."""
    # Every pytest loads this module; it must not load Celery too.
    from relevo.testing import fake  # noqa: PLC0415

    with fake(app=relevo_app) as queue:
        yield queue


@pytest.fixture
def fake_disk(relevo_app: Any) -> Iterator[FakeDisk]:
    """An empty disk, in place of the project's during the test."""
    from relevo.testing import fake_disk as faked  # noqa: PLC0415  without Celery, as above

    with faked(app=relevo_app) as disk:
        yield disk


@pytest.fixture
def fake_mail() -> Iterator[FakeMail]:
    """During the test no mail is sent; it is kept for assertions."""
    from relevo.testing import fake_mail as faked  # noqa: PLC0415  without Celery, as above

    with faked() as mail:
        yield mail


@pytest.fixture
def fake_alerts() -> Iterator[FakeAlerts]:
    """During the test no alert is sent; it is kept for assertions."""
    from relevo.testing import fake_alerts as faked  # noqa: PLC0415  without Celery, as above

    with faked() as alerts:
        yield alerts
