"""Steps whose answer was lost: nobody knows whether Redis took them, and two of them must not be
taken twice.

* **put**: who gets no answer tries again (Celery's publisher does), and the job would be there twice. So each thread
  numbers its puts; the script keeps the number and the answer of a thread's last one for two
  minutes, and the thread that tries the same jobs again does it under the same number. One key a
  thread, whatever it puts.
* **reserve**: the jobs would wait for the end of a lease that nobody knows of, with an attempt burnt. So the lost
  token is remembered here, and what was taken by it is put back before anything else is reserved.
  Twice: a server that was asleep may carry out what lay in its buffers only after it has answered
  somebody else.

All the others may be done twice: a second ack, release or extension of a lease finds it ended, or
renews it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

# Seconds after which what was taken by a lost reservation is looked for once more.
LOOK_AGAIN = 1.0


class PutRequests(threading.local):
    """The puts of one thread."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.thread = uuid4().hex[:16]
        self._pid = os.getpid()
        self._number = 0
        self._lost: list[tuple[str, str]] = []

    def request_number(self, jobs: list[tuple[str, str]]) -> int:
        """The number under which these jobs (queue, id) are put: the last put's if they are its and
        got no answer.
        """
        if (
            self._pid != os.getpid()
        ):  # a fork's: under its parent's name it would get the answers to its parent's puts
            self._begin()
        if not self._lost or self._lost != jobs:
            self._number += 1
        self._lost = jobs
        return self._number

    def confirm(self) -> None:
        self._lost = []


class LostReservations:
    """LostReservations of this process whose answer was lost, by way of `run`, which runs a script."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run
        self._lost: dict[str, tuple[Sequence[str], float]] = {}
        self._sought: set[str] = set()
        self._lock = threading.Lock()

    def add(self, token: str, queues: Sequence[str]) -> None:
        """What was taken under `token` is to be put back."""
        with self._lock:
            self._lost[token] = (queues, 0.0)

    def release(self) -> None:
        """Put back what lost reservations have taken. Raises while the broker is away: they are
        tried again then.
        """
        if not self._lost:
            return
        with self._lock:
            due = [
                (token, queues)
                for token, (queues, when) in self._lost.items()
                if when <= time.monotonic()
            ]
        for token, queues in due:
            self._run("reclaim", token, *queues)
            with self._lock:
                if token in self._sought:
                    self._lost.pop(token, None)
                    self._sought.discard(token)
                elif token in self._lost:
                    self._lost[token] = (queues, time.monotonic() + LOOK_AGAIN)
                    self._sought.add(token)
