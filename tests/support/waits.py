"""How a test waits: it checks a condition until it holds, and fails with what is known
otherwise.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Seconds: far more than a slow and busy machine needs. Only a failing test waits so long.
WITHIN = 90.0
# Seconds for a single wait (for an end, an answer): a machine may stand still for a part of them.
LONG = 300.0
# Seconds between two checks, and the most that one counts for: a machine may stand still meanwhile.
EVERY, MOST = 0.02, 0.2


def eventually(
    question: Callable[[], Any], otherwise: Callable[[], str] = str, *, within: float = WITHIN
) -> Any:
    """The first true value of a condition. Without one in time the test fails, with the text of
    `otherwise`.
    """
    waited, before = 0.0, time.monotonic()
    while not (answer := question()):
        waited, before = waited + min(MOST, (now := time.monotonic()) - before), now
        if waited > within:
            pytest.fail(f"waited {within:.0f} s for {question}\n{otherwise()}")
        time.sleep(EVERY)
    return answer


def stacks(pid: int, log: Path) -> str:
    """The log of a worker that hangs, with the stacks of its threads: Celery writes them at
    SIGUSR1.
    """
    before = log.stat().st_size
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
        with contextlib.suppress(
            pytest.fail.Exception
        ):  # its main thread may handle no signal any more
            eventually(lambda: log.stat().st_size > before, within=5.0)
    return log.read_text(errors="replace")[-60_000:]


def readable(*descriptors: int, within: float) -> list[int]:
    """The readable ones, as soon as there is one. (`select.select` refuses numbers over 1023.)"""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(within * 1000)]
