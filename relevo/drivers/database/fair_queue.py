"""Fair queues: the keys (tenants) of a queue take turns.

    turn = max(the turn of the first waiting job, the end of the key's last turn)
    the end of the key's last turn = turn + 1

This is start-time fair queueing. A turn is a number far below any instant, and is stored in
`available_at`: fair queues have the claims, the index and the plans of every queue, and a queue
without keys pays nothing. `fair_since` says since when such a job could really have run. A key with
a hundred thousand waiting jobs is a hundred thousand turns ahead; the first job of another key gets
the turn that is being served just now.

Turns only grow, and must stay below the instants. When no job waits and RESTART_AT turns have been
given, they start at 0 again. A queue that is never empty stops at LAST_TURN: from there on it is
served in the order of arrival.

In a fair queue the jobs without a key get turns too, as one key ("") among the others, when a
reservation stages due jobs. Each function runs inside a transaction of its caller.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, delete, func, select, update

from relevo.drivers.database.statements import insert_if_new
from relevo.drivers.database.tables import jobs, turns

#: A number below this is a turn, a number above it an instant.
TURNS = 1e9
LAST_TURN = TURNS - 1
# The turn from which on a queue without a waiting job starts at 0 again.
RESTART_AT = 1e6
#: The key of jobs without a key.
NO_KEY = ""
# The share of all puts that also delete the rows of idle keys.
TIDY_SHARE = 0.01
# The most jobs without a key that get turns at once, and the most jobs read to find the oldest.
BATCH = 1000

#: The state of a job that is due now. A job with a key gets its turn first, when it is staged.
DUE = case((jobs.c.fair_key.is_(None), "pending"), else_="delayed")
#: The instant since which a pending job could have run.
SINCE = case((jobs.c.available_at < TURNS, jobs.c.fair_since), else_=jobs.c.available_at)

_MOVE_TO_TURN = (
    update(jobs)
    .where(jobs.c.id == bindparam("job"))
    .values(
        state="pending",
        available_at=bindparam("turn"),
        fair_key=bindparam("whose"),
        fair_since=bindparam("since"),
    )
)
_Place = tuple[str, int]

# Built once: building these costs more than SQLite takes to run them.
_WAITING = and_(
    jobs.c.queue == bindparam("q"), jobs.c.state == "pending", jobs.c.priority == bindparam("p")
)
_FIRST_TURN = select(func.min(jobs.c.available_at)).where(_WAITING, jobs.c.available_at < TURNS)
_JOBS_WITHOUT_KEY = (
    select(jobs.c.id, jobs.c.available_at, func.coalesce(jobs.c.fair_key, NO_KEY).label("fair_key"))
    .where(_WAITING, jobs.c.available_at >= TURNS)
    .order_by(jobs.c.available_at, jobs.c.id)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)
_FAIR_QUEUES = select(turns.c.queue, turns.c.priority).where(turns.c.fair_key == NO_KEY)
_PLACE = and_(turns.c.queue == bindparam("q"), turns.c.priority == bindparam("p"))
_LAST_TURN_END = select(func.max(turns.c.finish)).where(_PLACE)
_TURN_ENDS = (
    select(turns.c.fair_key, turns.c.finish)
    .where(_PLACE, turns.c.fair_key.in_(bindparam("keys", expanding=True)))
    .with_for_update()
)
_SERVED_KEYS = (
    select(turns.c.fair_key)
    .where(_PLACE, turns.c.finish <= bindparam("end"), turns.c.fair_key != NO_KEY)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)
_RAISE_TURN_END = (
    update(turns)
    .where(_PLACE, turns.c.fair_key == bindparam("k"), turns.c.finish < bindparam("end"))
    .values(finish=bindparam("end"))
)
_SET_TURN_END = (
    update(turns).where(_PLACE, turns.c.fair_key == bindparam("k")).values(finish=bindparam("end"))
)


_NO_KEY_TURN = (
    select(turns.c.finish)
    .where(_PLACE, turns.c.fair_key == NO_KEY)
    .with_for_update(skip_locked=True)
)
_RESERVED = and_(
    jobs.c.queue == bindparam("q"),
    jobs.c.state == "reserved",
    jobs.c.priority == bindparam("p"),
    jobs.c.available_at < TURNS,
)
_COUNT_RESERVED = select(func.count()).select_from(jobs).where(_RESERVED)
_LOCK_RESERVED = (
    select(jobs.c.id)
    .where(_RESERVED)
    .order_by(jobs.c.available_at, jobs.c.id)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)
_SET_TURN = update(jobs).where(jobs.c.id == bindparam("job")).values(available_at=bindparam("turn"))
_FORGET_KEYS = delete(turns).where(_PLACE, turns.c.fair_key != NO_KEY)


def assign_turns(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Give turns to the new rows that are pending and have a key."""
    ready = [row for row in rows if row["fair_key"] is not None and row["state"] == "pending"]
    wanted = [(row["queue"], row["priority"], row["fair_key"]) for row in ready]
    for row, turn in zip(ready, _next_turns(connection, wanted), strict=True):
        row["fair_since"], row["available_at"] = row["available_at"], turn


def stage(connection: Connection, rows: Sequence[Any]) -> None:
    """Move due delayed jobs that have a key to pending: they get turns in this order."""
    given = _next_turns(connection, [(row.queue, row.priority, row.fair_key) for row in rows])
    _move_to_turns(connection, rows, given)


def tidy(connection: Connection) -> None:
    """Give turns to the jobs without a key in fair queues, and restart turns that are high."""
    for queue, priority in connection.execute(_FAIR_QUEUES).all():
        if _first_turn(connection, (queue, priority)) is not None:
            rows = connection.execute(_JOBS_WITHOUT_KEY, {"q": queue, "p": priority}).all()
            _move_to_turns(
                connection,
                rows,
                _next_turns(connection, [(queue, priority, row.fair_key) for row in rows]),
            )
        elif _last_turn_end(connection, (queue, priority)) >= RESTART_AT:
            _restart(connection, {"q": queue, "p": priority})


def _restart(connection: Connection, place: dict[str, Any]) -> None:
    """Start the turns of a place at 0, unless a job waits or comes back at this moment.

    The lock of NO_KEY keeps new turns away. A reserved job may come back to its turn, which must
    not lie behind all new ones: reserved jobs get the first turns. One that another transaction has
    locked is on its way, so the restart is left to the next time.
    """
    if connection.execute(_NO_KEY_TURN, place).first() is None:
        return
    reserved = connection.execute(_LOCK_RESERVED, place).scalars().all()
    if (
        connection.execute(_COUNT_RESERVED, place).scalar() != len(reserved)
        or connection.execute(_FIRST_TURN, place).scalar() is not None
    ):
        return
    if reserved:
        first = [{"job": job, "turn": float(turn)} for turn, job in enumerate(reserved)]
        connection.execute(_SET_TURN, first)
    connection.execute(_FORGET_KEYS, place)
    connection.execute(_SET_TURN_END, {**place, "k": NO_KEY, "end": float(len(reserved))})


def reset(connection: Connection, queue: str) -> None:
    """Forget all turns of a queue: every key begins anew."""
    connection.execute(delete(turns).where(turns.c.queue == queue))


def oldest_since(connection: Connection, queue: str) -> float | None:
    """Since when the oldest pending job of a fair queue could have run.

    Only the first BATCH jobs are read: the first job of each key is among them.
    """
    first = (
        select(SINCE.label("since"))
        .where(jobs.c.queue == queue, jobs.c.state == "pending")
        .order_by(jobs.c.priority, jobs.c.available_at, jobs.c.id)
        .limit(BATCH)
        .subquery()
    )
    return connection.execute(select(func.min(first.c.since))).scalar()


def _move_to_turns(connection: Connection, rows: Sequence[Any], given: Sequence[float]) -> None:
    if rows:
        connection.execute(
            _MOVE_TO_TURN,
            [
                {"job": row.id, "turn": turn, "whose": row.fair_key, "since": row.available_at}
                for row, turn in zip(rows, given, strict=True)
            ],
        )


def _next_turns(connection: Connection, wanted: Sequence[tuple[str, int, str]]) -> list[float]:
    """The next turn for each (queue, priority, key), in this order."""
    keys: dict[_Place, set[str]] = defaultdict(set)
    for queue, priority, key in wanted:
        keys[queue, priority].add(key)
    ends: dict[tuple[str, int, str], float] = {}
    for place in sorted(keys):
        known = _lock_turn_ends(connection, place, sorted(keys[place] | {NO_KEY}))
        first = _first_turn(connection, place)
        start = _last_turn_end(connection, place) if first is None else first
        if random.random() < TIDY_SHARE:  # noqa: S311  no secret
            _drop_idle_keys(connection, place, start, keys[place])
        ends |= {(*place, key): max(start, known[key]) for key in keys[place]}
    given = []
    for each in wanted:
        given.append(min(ends[each], LAST_TURN))
        ends[each] = min(ends[each] + 1, LAST_TURN)
    if ends:
        connection.execute(
            _SET_TURN_END,
            [
                {"q": queue, "p": priority, "k": key, "end": end}
                for (queue, priority, key), end in sorted(ends.items())
            ],
        )
    return given


def _drop_idle_keys(
    connection: Connection, place: _Place, start: float, keys: Collection[str]
) -> None:
    """Delete the rows of keys whose last turn has been served: a missing row means the same."""
    queue, priority = place
    connection.execute(_RAISE_TURN_END, {"q": queue, "p": priority, "k": NO_KEY, "end": start})
    over = connection.execute(_SERVED_KEYS, {"q": queue, "p": priority, "end": start}).scalars()
    if idle := [key for key in over if key not in keys]:
        connection.execute(
            delete(turns).where(_PLACE, turns.c.fair_key.in_(idle)), {"q": queue, "p": priority}
        )


def _lock_turn_ends(connection: Connection, place: _Place, keys: Sequence[str]) -> dict[str, float]:
    """Where the last turns of these keys end. Their rows stay locked until the commit."""
    queue, priority = place
    found: dict[str, float] = {}
    while len(found) < len(keys):
        rows = connection.execute(_TURN_ENDS, {"q": queue, "p": priority, "keys": keys})
        found = {row.fair_key: row.finish for row in rows}
        for key in keys:
            if key not in found:
                row = {"queue": queue, "priority": priority, "fair_key": key, "finish": 0.0}
                insert_if_new(connection, turns, row)
    return found


def _first_turn(connection: Connection, place: _Place) -> float | None:
    """The turn of the first waiting job."""
    return connection.execute(_FIRST_TURN, {"q": place[0], "p": place[1]}).scalar()


def _last_turn_end(connection: Connection, place: _Place) -> float:
    """The end of the last turn: when no job waits, all keys begin there."""
    return float(connection.execute(_LAST_TURN_END, {"q": place[0], "p": place[1]}).scalar() or 0)
