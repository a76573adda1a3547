"""Broadcasts for remote control, its replies and events: a list for each mailbox.

Not PUBLISH: a consumer that is reconnecting would miss the message. Mail waits in its list until it
is received or its mailbox goes away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from relevo.drivers.contract import Binding, Broadcast

# Unread mail is dropped after this time, which is Celery's limit for control messages.
KEEP_SECONDS = 300


class Mailboxes:
    """The mailboxes on one Redis. `run` runs a script.

    The mailboxes of this process are remembered, to be opened again.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run
        self._opened: dict[str, tuple[list[Binding], float]] = {}

    def subscribe(self, mailbox: str, bindings: Sequence[Binding], ttl: float) -> None:
        merged = list(dict.fromkeys([*self._opened.get(mailbox, ([], 0))[0], *bindings]))
        fields = [text for binding in merged for text in (binding.exchange, binding.pattern)]
        self._run("subscribe", mailbox, ttl, *fields)
        self._opened[mailbox] = (merged, ttl)

    def unsubscribe(self, mailbox: str) -> None:
        self._opened.pop(mailbox, None)
        self._run("unsubscribe", mailbox)

    def broadcast(self, messages: Sequence[Broadcast]) -> bool:
        bound = {
            exchange: self._bound(exchange)
            for exchange in {message.exchange for message in messages}
        }
        mail = [
            text
            for message in messages
            for mailbox in dict.fromkeys(
                box for box, pattern in bound[message.exchange] if _fits(pattern, message)
            )
            for text in (
                mailbox,
                json.dumps([message.exchange, message.routing_key, message.payload]),
            )
        ]
        if mail:
            self._run("deliver", KEEP_SECONDS, *mail)
        return bool(mail)

    def _bound(self, exchange: str) -> list[tuple[str, str]]:
        return [tuple(json.loads(binding)) for binding in self._run("bound", exchange)]

    def receive(self, mailbox: str) -> list[Broadcast]:
        mail = self._run("receive", mailbox)
        if mail == -1:  # it went away while this process was stopped for longer than its ttl
            if mailbox in self._opened:
                self.subscribe(mailbox, [], self._opened[mailbox][1])
            return []
        return [Broadcast(*json.loads(message)) for message in mail]


def _fits(pattern: str, message: Broadcast) -> bool:
    return not pattern or re.fullmatch(pattern, message.routing_key) is not None
