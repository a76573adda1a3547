"""A mailbox for a test: it keeps the mail that `relevo.mail` would send, with assertions.

with fake_mail() as mail:
    welcome("ada@example.com")
    mail.assert_sent("ada@example.com", subject="Welcome")
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from relevo.mail import Message, sending

__tracebackhide__ = True

MOST_SHOWN = 30


class FakeMail:
    """The mail that was sent, oldest first."""

    def __init__(self) -> None:
        self._sent: list[Message] = []
        self._refusal: Exception | None = None
        self._lock = threading.Lock()

    def all(self) -> list[Message]:
        """Every mail that was sent."""
        with self._lock:
            return list(self._sent)

    def refuse(self, error: Exception | None) -> None:
        """Raise this error for each mail from now on: an unreachable server raises OSError. None
        ends that.
        """
        self._refusal = error

    def sent(
        self,
        to: str | None = None,
        *,
        subject: str | None = None,
        where: Callable[[Message], object] | None = None,
    ) -> list[Message]:
        """The mail to an address, with this subject, for which `where` is true."""
        return [
            mail
            for mail in self.all()
            if (to is None or mail.to == to)
            and (subject is None or mail.subject == subject)
            and (where is None or where(mail))
        ]

    def assert_sent(
        self,
        to: str | None = None,
        *,
        subject: str | None = None,
        times: int | None = None,
        where: Callable[[Message], object] | None = None,
    ) -> None:
        """A mail with these properties was sent, or exactly `times` of them."""
        found = self.sent(to, subject=subject, where=where)
        count = "" if times is None else f" {times} times, got {len(found)}"
        holds = found if times is None else len(found) == times
        self._expect(holds, f"{_description(to, subject, where)} to be sent{count}")

    def assert_not_sent(
        self,
        to: str | None = None,
        *,
        subject: str | None = None,
        where: Callable[[Message], object] | None = None,
    ) -> None:
        """No mail with these properties was sent."""
        self._expect(
            not self.sent(to, subject=subject, where=where),
            f"no {_description(to, subject, where)} to be sent",
        )

    def assert_count(self, count: int) -> None:
        """Exactly `count` mails were sent."""
        self._expect(len(self.all()) == count, f"{count} mails, got {len(self.all())}")

    def assert_nothing_sent(self) -> None:
        """No mail was sent."""
        self._expect(not self.all(), "no mail to be sent")

    def take(self, message: Message) -> None:
        """Keep a mail. Raises the error that `refuse` was given."""
        if self._refusal is not None:
            raise self._refusal
        with self._lock:
            self._sent.append(message)

    def _expect(self, holds: object, expected: str) -> None:
        if not holds:
            mails = self.all()
            lines = [
                f"  {number}. to {mail.to}: {mail.subject!r}"
                for number, mail in enumerate(mails[:MOST_SHOWN], 1)
            ]
            lines += [f"  and {len(mails) - MOST_SHOWN} more"] if len(mails) > MOST_SHOWN else []
            there = "\n".join(["what was sent:", *lines]) if mails else "nothing was sent"
            raise AssertionError(f"expected {expected}\n{there}")


@contextmanager
def fake_mail() -> Iterator[FakeMail]:
    """Keep the mail that this process sends, whichever server the settings name."""
    mail, before = FakeMail(), sending.taker
    sending.taker = mail.take
    try:
        yield mail
    finally:
        sending.taker = before


def _description(to: str | None, subject: str | None, where: object) -> str:
    said = (
        "mail" + (f" to {to}" if to else "") + (f" with the subject {subject!r}" if subject else "")
    )
    return said + (" where the predicate is true" if where else "")
