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
reservation stages due jobs.

Turns of one place (a queue and a priority) are given by one transaction at a time: the one that has
locked the row of the key "" there. A put of the driver's own waits for it. A reservation doesn't:
it leaves the place for the next one. Only transactions of the driver's own lock it, since a user's
transaction may stay open for hours (`jobs.hand_in`). Each function runs inside a transaction of its
caller.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, delete, func, insert, select, update

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
    select(
        jobs.c.id,
        jobs.c.queue,
        jobs.c.priority,
        jobs.c.available_at,
        func.coalesce(jobs.c.fair_key, NO_KEY).label("fair_key"),
    )
    .where(_WAITING, jobs.c.available_at >= TURNS)
    .order_by(jobs.c.available_at, jobs.c.id)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)
_FAIR_QUEUES = select(turns.c.queue, turns.c.priority).where(turns.c.fair_key == NO_KEY)
_PLACE = and_(turns.c.queue == bindparam("q"), turns.c.priority == bindparam("p"))
_LAST_TURN_END = select(func.max(turns.c.finish)).where(_PLACE)
_TURN_ENDS = select(turns.c.fair_key, turns.c.finish).where(
    _PLACE, turns.c.fair_key.in_(bindparam("keys", expanding=True))
)
_PLACE_ROW = select(turns.c.finish).where(_PLACE, turns.c.fair_key == NO_KEY)
_LOCK_PLACE = _PLACE_ROW.with_for_update()
_LOCK_FREE_PLACE = _PLACE_ROW.with_for_update(skip_locked=True)
_SERVED_KEYS = (
    select(turns.c.fair_key)
    .where(_PLACE, turns.c.finish <= bindparam("end"), turns.c.fair_key != NO_KEY)
    .limit(BATCH)
)
_RAISE_TURN_END = (
    update(turns)
    .where(_PLACE, turns.c.fair_key == bindparam("k"), turns.c.finish < bindparam("end"))
    .values(finish=bindparam("end"))
)
_SET_TURN_END = (
    update(turns).where(_PLACE, turns.c.fair_key == bindparam("k")).values(finish=bindparam("end"))
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
    _lock_places(connection, {(queue, priority) for queue, priority, _ in wanted})
    for row, turn in zip(ready, _next_turns(connection, wanted), strict=True):
        row["fair_since"], row["available_at"] = row["available_at"], turn


def give_turns(connection: Connection, rows: Sequence[Any]) -> None:
    """Move jobs of the caller's own that have a key from delayed to pending, in this order."""
    _lock_places(connection, {(row.queue, row.priority) for row in rows})
    _move_to_turns(connection, rows)


def stage(connection: Connection, rows: Sequence[Any]) -> int:
    """Move due delayed jobs that have a key to pending: they get turns in the order of their time.

    Leaves the jobs of a place that another transaction has locked. Returns how many were moved.
    """
    places = sorted({(row.queue, row.priority) for row in rows})
    free = {place for place in places if _lock_if_free(connection, place)}
    staged = sorted(
        (row for row in rows if (row.queue, row.priority) in free),
        key=lambda row: (row.available_at, row.id),
    )
    _move_to_turns(connection, staged)
    return len(staged)


def tidy(connection: Connection) -> None:
    """Give turns to the jobs without a key in fair queues, and restart turns that are high."""
    for queue, priority in connection.execute(_FAIR_QUEUES).all():
        if _first_turn(connection, (queue, priority)) is not None:
            rows = connection.execute(_JOBS_WITHOUT_KEY, {"q": queue, "p": priority}).all()
            stage(connection, rows)
        elif _last_turn_end(connection, (queue, priority)) >= RESTART_AT:
            _restart(connection, {"q": queue, "p": priority})


def _restart(connection: Connection, place: dict[str, Any]) -> None:
    """Start the turns of a place at 0, unless a job waits or comes back at this moment.

    The lock of the place keeps new turns away. A reserved job may come back to its turn, which must
    not lie behind all new ones: reserved jobs get the first turns. One that another transaction has
    locked is on its way, so the restart is left to the next time.
    """
    if connection.execute(_LOCK_FREE_PLACE, place).first() is None:
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
    places = connection.execute(_FAIR_QUEUES.where(turns.c.queue == queue)).all()
    _lock_places(connection, {(row.queue, row.priority) for row in places})
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


def _move_to_turns(connection: Connection, rows: Sequence[Any]) -> None:
    if rows:
        wanted = [(row.queue, row.priority, row.fair_key) for row in rows]
        connection.execute(
            _MOVE_TO_TURN,
            [
                {"job": row.id, "turn": turn, "whose": row.fair_key, "since": row.available_at}
                for row, turn in zip(rows, _next_turns(connection, wanted), strict=True)
            ],
        )


def _next_turns(connection: Connection, wanted: Sequence[tuple[str, int, str]]) -> list[float]:
    """The next turn for each (queue, priority, key), in this order, at places that are locked."""
    keys: dict[_Place, set[str]] = defaultdict(set)
    for queue, priority, key in wanted:
        keys[queue, priority].add(key)
    ends: dict[tuple[str, int, str], float] = {}
    for place in sorted(keys):
        known = _turn_ends(connection, place, sorted(keys[place]))
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


def _turn_ends(connection: Connection, place: _Place, keys: Sequence[str]) -> dict[str, float]:
    """Where the last turns of these keys end. Adds the rows of new keys."""
    asked = {"q": place[0], "p": place[1], "keys": keys}
    found = {row.fair_key: row.finish for row in connection.execute(_TURN_ENDS, asked)}
    if new := [_row(place, key) for key in keys if key not in found]:
        connection.execute(insert(turns), new)
    return {key: found.get(key, 0.0) for key in keys}


def _lock_places(connection: Connection, places: Collection[_Place]) -> None:
    """Lock places until the commit, in the one order in which places are locked."""
    for place in sorted(places):
        asked = {"q": place[0], "p": place[1]}
        while connection.execute(_LOCK_PLACE, asked).first() is None:
            insert_if_new(connection, turns, _row(place, NO_KEY))


def _lock_if_free(connection: Connection, place: _Place) -> bool:
    """Lock a place until the commit, unless another transaction has locked it."""
    asked = {"q": place[0], "p": place[1]}
    if connection.execute(_LOCK_FREE_PLACE, asked).first() is not None:
        return True
    if connection.execute(_PLACE_ROW, asked).first() is not None:
        return False
    return insert_if_new(connection, turns, _row(place, NO_KEY))


def _row(place: _Place, key: str) -> dict[str, Any]:
    return {"queue": place[0], "priority": place[1], "fair_key": key, "finish": 0.0}


def _first_turn(connection: Connection, place: _Place) -> float | None:
    """The turn of the first waiting job."""
    return connection.execute(_FIRST_TURN, {"q": place[0], "p": place[1]}).scalar()


def _last_turn_end(connection: Connection, place: _Place) -> float:
    """The end of the last turn: when no job waits, all keys begin there."""
    return float(connection.execute(_LAST_TURN_END, {"q": place[0], "p": place[1]}).scalar() or 0)
