"""The pytest plugin: fixtures `fake_queue`, `fake_disk` and `fake_mail`. It loads Celery only for
who asks.

A project whose app is not Celery's current one names it by a fixture of its own, `relevo_app`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from relevo.testing.disk import FakeDisk
    from relevo.testing.fake import Fake
    from relevo.testing.mail import FakeMail


@pytest.fixture
def relevo_app() -> Any:
    """The app that is faked; None is Celery's current one."""
    return None


@pytest.fixture
def fake_queue(relevo_app: Any) -> Iterator[Fake]:
    """Nothing is sent during the test; what was dispatched can be asserted and run."""
    # this module is loaded by every pytest, Celery need not be
    from relevo.testing import fake  # noqa: PLC0415

    with fake(app=relevo_app) as queue:
        yield queue


@pytest.fixture
def fake_disk(relevo_app: Any) -> Iterator[FakeDisk]:
    """An empty disk in place of the project's, for the test."""
    from relevo.testing import fake_disk as faked  # noqa: PLC0415  as above

    with faked(app=relevo_app) as disk:
        yield disk


@pytest.fixture
def fake_mail() -> Iterator[FakeMail]:
    """No mail goes out during the test; what was sent can be asserted."""
    from relevo.testing import fake_mail as faked  # noqa: PLC0415  as above

    with faked() as mail:
        yield mail
