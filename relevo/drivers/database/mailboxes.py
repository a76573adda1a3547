"""Broadcasts for remote control, its replies and events.

A message is one row, and a mailbox is a row that says how far it has read. For the length of its
transaction a sender locks the mailboxes that it writes for, and a reader its own. Therefore senders
write one after the other: otherwise a message could become visible after one with a higher id that
a mailbox has already read, and would never be seen. Of two readers of one mailbox the second finds
what the first has left.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, join, select, update

from relevo.drivers.contract import Binding, Broadcast
from relevo.drivers.database.statements import insert_if_new
from relevo.drivers.database.tables import bindings, broadcasts, mailboxes

# The part of its ttl after which a mailbox is renewed by a read. If every read were a write, it
# would wake all listeners, whose reads would wake them again.
RENEW_AFTER = 0.2


# The messages behind the last one that a mailbox has seen, with its bindings to their exchange.
_TO_IT = (bindings.c.mailbox == bindparam("mailbox")) & (
    bindings.c.exchange == broadcasts.c.exchange
)
_MAIL = (
    select(broadcasts, bindings.c.pattern, bindings.c.since)
    .join(bindings, _TO_IT)
    .where(broadcasts.c.id > bindparam("seen"))
    .order_by(broadcasts.c.id)
)
# An open mailbox, with those messages.
_MAIL_OF_OPEN = (
    select(
        mailboxes.c.ttl,
        mailboxes.c.expires_at,
        broadcasts.c.id,
        broadcasts.c.exchange,
        broadcasts.c.routing_key,
        bindings.c.pattern,
        bindings.c.since,
    )
    .select_from(
        mailboxes.outerjoin(join(broadcasts, bindings, _TO_IT), broadcasts.c.id > mailboxes.c.seen)
    )
    .where(mailboxes.c.mailbox == bindparam("mailbox"), mailboxes.c.expires_at > bindparam("now"))
)


@dataclass(frozen=True, slots=True)
class Mail:
    """Messages to send, and the mailboxes that get at least one of them."""

    messages: list[Broadcast]
    mailboxes: list[str]


# --- open and close -------------------------------------------------------------------------------
def subscribe(
    connection: Connection, mailbox: str, wanted: Sequence[Binding], now: float, ttl: float
) -> None:
    """Open or renew a mailbox and add bindings. Messages that it has read stay read."""
    _close_ended(connection, now)
    is_new = _open_or_lock(
        connection, {"mailbox": mailbox, "seen": 0, "ttl": ttl, "expires_at": now + ttl}
    )
    newest = _newest(connection)
    changes = {"ttl": ttl, "expires_at": now + ttl} | ({"seen": newest} if is_new else {})
    connection.execute(update(mailboxes).where(mailboxes.c.mailbox == mailbox).values(changes))
    mine = select(bindings.c.exchange, bindings.c.pattern).where(bindings.c.mailbox == mailbox)
    known = {Binding(row.exchange, row.pattern) for row in connection.execute(mine)}
    for binding in dict.fromkeys(wanted):
        if binding not in known:
            connection.execute(
                insert(bindings),
                {
                    "mailbox": mailbox,
                    "exchange": binding.exchange,
                    "pattern": binding.pattern,
                    "since": newest,
                },
            )


def _open_or_lock(connection: Connection, box: dict[str, Any]) -> bool:
    while not insert_if_new(connection, mailboxes, box):
        if _lock(connection, [box["mailbox"]]):
            return False
    return True


def unsubscribe(connection: Connection, mailbox: str) -> None:
    _close(connection, [mailbox])


def trim(connection: Connection, now: float) -> None:
    """Delete the messages that every open mailbox has read."""
    _close_ended(connection, now)
    read_by_all = connection.execute(select(func.min(mailboxes.c.seen))).scalar()
    upto = _newest(connection) if read_by_all is None else read_by_all
    connection.execute(delete(broadcasts).where(broadcasts.c.id <= upto))


def _close_ended(connection: Connection, now: float) -> None:
    ended = (
        select(mailboxes.c.mailbox)
        .where(mailboxes.c.expires_at <= now)
        .with_for_update(skip_locked=True)
    )
    _close(connection, connection.execute(ended).scalars().all())


def _close(connection: Connection, names: Sequence[str]) -> None:
    if names:
        connection.execute(delete(mailboxes).where(mailboxes.c.mailbox.in_(names)))
        connection.execute(delete(bindings).where(bindings.c.mailbox.in_(names)))


# --- send -----------------------------------------------------------------------------------------
def route(connection: Connection, messages: Sequence[Broadcast], now: float) -> Mail:
    """The messages that fit an open mailbox, and all such mailboxes."""
    exchanges = {message.exchange for message in messages}
    asked = (
        select(bindings.c.mailbox, bindings.c.exchange, bindings.c.pattern)
        .join(mailboxes, mailboxes.c.mailbox == bindings.c.mailbox)
        .where(bindings.c.exchange.in_(exchanges), mailboxes.c.expires_at > now)
    )
    getters: defaultdict[int, set[str]] = defaultdict(set)
    for binding in connection.execute(asked):
        for place, message in enumerate(messages):
            if _fits(binding, message):
                getters[place].add(binding.mailbox)
    return Mail(
        [messages[place] for place in sorted(getters)], sorted(set().union(*getters.values()))
    )


def send(connection: Connection, mail: Mail) -> None:
    """Write the messages, under the locks of their mailboxes."""
    _lock(connection, mail.mailboxes)
    connection.execute(
        insert(broadcasts),
        [
            {
                "exchange": message.exchange,
                "routing_key": message.routing_key,
                "payload": message.payload,
            }
            for message in mail.messages
        ],
    )


# --- receive --------------------------------------------------------------------------------------
def has_mail(connection: Connection, mailbox: str, now: float) -> bool:
    """Whether a mailbox has mail, or must be renewed.

    One statement without a lock, because idle workers ask again and again.
    """
    rows = connection.execute(_MAIL_OF_OPEN, {"mailbox": mailbox, "now": now}).all()
    if not rows:
        return False
    return now >= rows[0].expires_at - rows[0].ttl * (1 - RENEW_AFTER) or any(
        _is_for(row) for row in rows
    )


def receive(connection: Connection, mailbox: str, now: float) -> list[Broadcast]:
    """Take the new messages of a mailbox, in order, each once. Renews the mailbox."""
    _lock(connection, [mailbox])
    box = _open(connection, mailbox, now)
    if box is None:
        return []
    unread = _unread(connection, box)
    # Also past the messages of other mailboxes: a sender to this one waits for its lock, so no
    # lower id can appear later.
    read = {"seen": max(box.seen, _newest(connection)), "expires_at": now + box.ttl}
    connection.execute(update(mailboxes).where(mailboxes.c.mailbox == mailbox).values(read))
    return [Broadcast(row.exchange, row.routing_key, row.payload) for row in unread]


def _open(connection: Connection, mailbox: str, now: float) -> Row[Any] | None:
    mine = select(mailboxes).where(mailboxes.c.mailbox == mailbox, mailboxes.c.expires_at > now)
    return connection.execute(mine).first()


def _unread(connection: Connection, box: Row[Any]) -> list[Row[Any]]:
    rows = connection.execute(_MAIL, {"mailbox": box.mailbox, "seen": box.seen})
    # By id: a message that fits several bindings is received once.
    return list({row.id: row for row in rows if _is_for(row)}.values())


def _is_for(row: Any) -> bool:
    """Whether a row has a message for the mailbox: one behind the binding's start that fits it."""
    return row.id is not None and row.id > row.since and _fits(row, row)


def _fits(binding: Any, message: Any) -> bool:
    if binding.exchange != message.exchange:
        return False
    return not binding.pattern or re.fullmatch(binding.pattern, message.routing_key) is not None


def _lock(connection: Connection, names: Iterable[str]) -> list[str]:
    # In one order, so that two transactions can't deadlock. SQLite has one writer, and no row
    # locks.
    ours = (
        select(mailboxes.c.mailbox)
        .where(mailboxes.c.mailbox.in_(names))
        .order_by(mailboxes.c.mailbox)
    )
    return list(connection.execute(ours.with_for_update()).scalars())


def _newest(connection: Connection) -> int:
    newest: int = connection.execute(
        select(func.coalesce(func.max(broadcasts.c.id), 0))
    ).scalar_one()
    return newest
