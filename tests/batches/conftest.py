"""Chords, batches and chains in a worker of this process."""

from __future__ import annotations

import pytest

from tests.support import chord_tasks


@pytest.fixture(autouse=True)
def _no_earlier_chord() -> None:
    """Forget what the tasks of an earlier test have noted."""
    chord_tasks.calls.clear()
    chord_tasks.mended.clear()
