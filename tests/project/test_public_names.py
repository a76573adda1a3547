"""The public names of `relevo`: few, and each exists."""

from __future__ import annotations

import subprocess
import sys

import relevo


def test_every_public_name_is_there_and_they_are_few():
    assert len(relevo.__all__) <= 15
    assert all(getattr(relevo, name) for name in relevo.__all__)


def test_importing_relevo_loads_neither_celery_nor_a_database():
    loaded = (
        "import sys, relevo\n"
        "print([name for name in ('celery', 'sqlalchemy', 'redis') if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )
