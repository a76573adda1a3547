"""Broadcasts: one row per message, and per mailbox how far it has read. For remote control, its replies and events.

A sender locks the mailboxes it writes for, so two senders write one after the other: without that, a message could
become visible behind one with a higher id that a mailbox has read already, and would never be seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from relevo.drivers.contract import Binding, Broadcast
from relevo.drivers.database.table import broadcasts, mailboxes

# A message nobody fetched for so long is of no use to anyone, in seconds (Celery's own limit for control messages).
KEEP = 300.0


def subscribe(connection: Connection, mailbox: str, bindings: Sequence[Binding], now: float, ttl: float) -> None:
    """Open or renew; what a mailbox has read so far stays read. Also clears away what nobody will read."""
    newest = connection.execute(select(func.coalesce(func.max(broadcasts.c.id), 0))).scalar_one()
    mine = select(mailboxes.c.exchange, mailboxes.c.pattern).where(mailboxes.c.mailbox == mailbox)
    known = {tuple(row) for row in connection.execute(mine.where(mailboxes.c.expires_at > now))}
    connection.execute(delete(mailboxes).where(mailboxes.c.expires_at <= now))
    connection.execute(update(mailboxes).where(mailboxes.c.mailbox == mailbox).values(expires_at=now + ttl))
    for binding in dict.fromkeys(bindings):
        if (binding.exchange, binding.pattern) not in known:
            connection.execute(insert(mailboxes), {
                "mailbox": mailbox, "exchange": binding.exchange, "pattern": binding.pattern,
                "seen": newest, "expires_at": now + ttl,
            })  # fmt: skip
    connection.execute(delete(broadcasts).where(broadcasts.c.created_at <= now - KEEP))


def unsubscribe(connection: Connection, mailbox: str) -> None:
    connection.execute(delete(mailboxes).where(mailboxes.c.mailbox == mailbox))


def wanted(connection: Connection, messages: Sequence[Broadcast], now: float) -> list[Broadcast]:
    """The messages that some open mailbox gets."""
    exchanges = {message.exchange for message in messages}
    open_ones = select(mailboxes.c.exchange, mailboxes.c.pattern).where(
        mailboxes.c.exchange.in_(exchanges), mailboxes.c.expires_at > now
    )
    bindings = connection.execute(open_ones).all()
    return [message for message in messages if any(_fits(binding, message) for binding in bindings)]


def send(connection: Connection, messages: Sequence[Broadcast], now: float) -> None:
    exchanges = {message.exchange for message in messages}
    connection.execute(select(mailboxes.c.seen).where(mailboxes.c.exchange.in_(exchanges)).with_for_update()).all()
    connection.execute(insert(broadcasts), [
        {"exchange": message.exchange, "routing_key": message.routing_key,
         "payload": message.payload, "created_at": now}
        for message in messages
    ])  # fmt: skip


def unread(connection: Connection, mailbox: str, now: float) -> list[Row[Any]]:
    """What has come to a mailbox, in order (`id` and the message's columns), each message once."""
    mine = select(mailboxes).where(mailboxes.c.mailbox == mailbox, mailboxes.c.expires_at > now)
    bindings = connection.execute(mine).all()
    found: dict[int, Row[Any]] = {}
    for binding in bindings:
        later = select(broadcasts).where(broadcasts.c.id > binding.seen, broadcasts.c.exchange == binding.exchange)
        found |= {row.id: row for row in connection.execute(later.order_by(broadcasts.c.id)) if _fits(binding, row)}
    return [found[key] for key in sorted(found)]


def mark_read(connection: Connection, mailbox: str, upto: int) -> None:
    connection.execute(
        update(mailboxes).where(mailboxes.c.mailbox == mailbox, mailboxes.c.seen < upto).values(seen=upto)
    )


def _fits(binding: Any, message: Any) -> bool:
    if binding.exchange != message.exchange:
        return False
    return not binding.pattern or re.fullmatch(binding.pattern, message.routing_key) is not None
