"""Mailboxes in memory: a broadcast is copied into each mailbox that fits, until it is received."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from relevo.drivers.contract import Binding, Broadcast


@dataclass(slots=True)
class Mailbox:
    """The unread messages of one consumer. An unused mailbox goes away at `gone_at`."""

    ttl: float
    gone_at: float
    bindings: set[Binding] = field(default_factory=set)
    unread: list[Broadcast] = field(default_factory=list)

    def fits(self, message: Broadcast) -> bool:
        return any(
            binding.exchange == message.exchange
            and (not binding.pattern or re.fullmatch(binding.pattern, message.routing_key))
            for binding in self.bindings
        )


class Mailboxes:
    """The open mailboxes by name."""

    def __init__(self) -> None:
        self._boxes: dict[str, Mailbox] = {}

    def subscribe(self, name: str, bindings: Sequence[Binding], ttl: float, now: float) -> None:
        box = self._open(now).setdefault(name, Mailbox(ttl, now + ttl))
        box.ttl, box.gone_at = ttl, now + ttl
        box.bindings.update(bindings)

    def unsubscribe(self, name: str) -> None:
        self._boxes.pop(name, None)

    def broadcast(self, messages: Sequence[Broadcast], now: float) -> bool:
        mail = [
            (box, message)
            for box in self._open(now).values()
            for message in messages
            if box.fits(message)
        ]
        for box, message in mail:
            box.unread.append(message)
        return bool(mail)

    def receive(self, name: str, now: float) -> list[Broadcast]:
        box = self._open(now).get(name)
        if box is None:
            return []
        box.gone_at = now + box.ttl
        come, box.unread = box.unread, []
        return come

    def _open(self, now: float) -> dict[str, Mailbox]:
        self._boxes = {name: box for name, box in self._boxes.items() if box.gone_at > now}
        return self._boxes
