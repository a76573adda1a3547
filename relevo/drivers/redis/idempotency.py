"""Steps whose answer was lost: the caller doesn't know whether Redis carried them out.

Two verbs must not be carried out twice:

* **put**: a caller without an answer tries again (Celery's publisher does), and the job would be
  there twice. Each thread numbers its puts, and `put.lua` keeps the number and the answer of a
  thread's last put for two minutes. A thread that tries the same jobs again uses the same number.
* **reserve**: the jobs would wait for the end of a lease that no worker knows, with an attempt
  burnt. The lost token is remembered here, and the jobs under it are released before the next
  reservation, and once more later: a server that slept may carry out the commands in its buffers
  only after it has answered another client.

All other verbs may run twice: a second ack or release finds the lease ended, a second extension
renews it again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

# After this time the jobs of a lost reservation are released once more.
SECOND_RELEASE_SECONDS = 1.0


class PutRequests(threading.local):
    """Numbers the puts of one thread."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.thread = uuid4().hex[:16]
        self._pid = os.getpid()
        self._number = 0
        self._unconfirmed: list[tuple[str, str]] = []

    def request_number(self, jobs: list[tuple[str, str]]) -> int:
        """The number of a put of these jobs, each given as (queue, id).

        It is the last put's number if that put had the same jobs and got no answer.
        """
        # A forked child begins anew: as its parent it would get the answers to its parent's puts.
        if self._pid != os.getpid():
            self._begin()
        if not self._unconfirmed or self._unconfirmed != jobs:
            self._number += 1
        self._unconfirmed = jobs
        return self._number

    def confirm(self) -> None:
        """The last put got its answer."""
        self._unconfirmed = []


class LostReservations:
    """Releases the reservations of this process whose answer was lost. `run` runs a script."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run
        self._lost: dict[str, tuple[Sequence[str], float]] = {}
        self._released_once: set[str] = set()
        self._lock = threading.Lock()

    def add(self, token: str, queues: Sequence[str]) -> None:
        """Remember to release the jobs of `queues` under `token`."""
        with self._lock:
            self._lost[token] = (queues, 0.0)

    def release(self) -> None:
        """Release the jobs of lost reservations.

        Raises while the broker is away; then call it again.
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
                if token in self._released_once:
                    self._lost.pop(token, None)
                    self._released_once.discard(token)
                elif token in self._lost:
                    self._lost[token] = (queues, time.monotonic() + SECOND_RELEASE_SECONDS)
                    self._released_once.add(token)
