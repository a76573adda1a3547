"""Alerts for a test: it keeps those that `relevo.alerts` would send, with assertions.

with fake_alerts() as alerts:
    checkout(order)
    alerts.assert_sent("orders.pay failed", critical=True)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from relevo import alerts as sending
from relevo.alerts import Alert

__tracebackhide__ = True

MOST_SHOWN = 30


class FakeAlerts:
    """The alerts that were sent, oldest first."""

    def __init__(self) -> None:
        self._sent: list[Alert] = []
        self._refusal: Exception | None = None
        self._lock = threading.Lock()

    def all(self) -> list[Alert]:
        """Every alert that was sent."""
        with self._lock:
            return list(self._sent)

    def refuse(self, error: Exception | None) -> None:
        """Raise this error for each alert from now on: a receiver that is away is an AlertError.
        None ends that.
        """
        self._refusal = error

    def sent(
        self,
        title: str | None = None,
        *,
        critical: bool | None = None,
        where: Callable[[Alert], object] | None = None,
    ) -> list[Alert]:
        """The alerts with this title, critical or not, for which `where` is true."""
        return [
            alert
            for alert in self.all()
            if (title is None or alert.title == title)
            and (critical is None or alert.critical == critical)
            and (where is None or where(alert))
        ]

    def assert_sent(
        self,
        title: str | None = None,
        *,
        critical: bool | None = None,
        times: int | None = None,
        where: Callable[[Alert], object] | None = None,
    ) -> None:
        """An alert with these properties was sent, or exactly `times` of them."""
        found = self.sent(title, critical=critical, where=where)
        count = "" if times is None else f" {times} times, got {len(found)}"
        holds = found if times is None else len(found) == times
        self._expect(holds, f"{_description(title, critical, where)} to be sent{count}")

    def assert_not_sent(
        self,
        title: str | None = None,
        *,
        critical: bool | None = None,
        where: Callable[[Alert], object] | None = None,
    ) -> None:
        """No alert with these properties was sent."""
        found = self.sent(title, critical=critical, where=where)
        self._expect(not found, f"{_description(title, critical, where)} not to be sent")

    def assert_count(self, count: int) -> None:
        """Exactly `count` alerts were sent."""
        found = len(self.all())
        self._expect(found == count, f"{count} alerts, got {found}")

    def assert_nothing_sent(self) -> None:
        """No alert was sent."""
        self._expect(not self.all(), "no alert to be sent")

    def take(self, alert: Alert) -> None:
        """Keep an alert. Raises the error that `refuse` was given."""
        if self._refusal is not None:
            raise self._refusal
        with self._lock:
            self._sent.append(alert)

    def _expect(self, holds: object, expected: str) -> None:
        if not holds:
            found = self.all()
            lines = [
                f"  {number}. {alert.title!r}{', critical' if alert.critical else ''}"
                for number, alert in enumerate(found[:MOST_SHOWN], 1)
            ]
            lines += [f"  and {len(found) - MOST_SHOWN} more"] if len(found) > MOST_SHOWN else []
            there = "\n".join(["what was sent:", *lines]) if found else "nothing was sent"
            raise AssertionError(f"expected {expected}\n{there}")


@contextmanager
def fake_alerts() -> Iterator[FakeAlerts]:
    """Keep the alerts that this process sends, whichever receivers the settings name, or none."""
    kept, before = FakeAlerts(), sending.taker
    sending.taker = kept.take
    try:
        yield kept
    finally:
        sending.taker = before


def _description(title: str | None, critical: bool | None, where: object) -> str:
    kind = {None: "an alert", True: "a critical alert", False: "an alert that isn't critical"}
    titled = f" with the title {title!r}" if title else ""
    return kind[critical] + titled + (" where the predicate is true" if where else "")
