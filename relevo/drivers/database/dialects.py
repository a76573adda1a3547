"""How each database inserts and claims jobs, locks rows and tells the time.

Hot statements are in `sql/`, one file each. All other statements are SQLAlchemy's and the same for
all databases.

PostgreSQL acks and claims in one statement: one round trip instead of four (BEGIN, DELETE, UPDATE,
COMMIT). Measured with one thread on a busy machine of two cores, before -> after, in ms for a
reservation with one ack:

    3 ms away      19 -> 12 and 14 -> 8; an ack alone 11 -> 3 and 8 -> 5
    loopback       2.1 -> 2.1 (ten jobs 2.5 -> 2.5): client 1.35 -> 0.94, server 0.50 -> 0.92
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, TextClause, insert, text

from relevo import clock
from relevo.drivers.contract import Lease
from relevo.drivers.database import leases, pauses
from relevo.drivers.database.statements import statement
from relevo.drivers.database.tables import jobs

_Rows = Sequence[Row[Any]]


@dataclass(frozen=True, slots=True)
class Claim:
    """Ack `done`, and take up to `limit` jobs of `queues` until an instant.

    The token of each job is `token` and the job's id; `jobs.claim` sets a fresh one.
    """

    queues: Sequence[str]
    limit: int
    now: float
    until: float
    by: str
    done: Sequence[Lease] = ()
    token: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one database inserts, claims, locks and tells the time."""

    name: str
    insert: Callable[[Connection, list[dict[str, Any]]], None]
    claim: Callable[[Connection, Claim], _Rows]
    server_time: Callable[[Connection], float]
    #: Whether verbs such as put, ack and claim are one statement, which needs no transaction.
    one_statement: bool = False
    skip_locked: str = "FOR UPDATE SKIP LOCKED"

    def locking(self, name: str) -> TextClause:
        """The statement `name`, which skips rows that another transaction has locked."""
        return statement(name, self.skip_locked)


# --- put ------------------------------------------------------------------------------------------
def _insert(connection: Connection, rows: list[dict[str, Any]]) -> None:
    connection.execute(insert(jobs), rows if len(rows) > 1 else rows[0])


def _insert_postgresql(connection: Connection, rows: list[dict[str, Any]]) -> None:
    connection.execute(statement("put_postgresql"), {"rows": json.dumps(rows, ensure_ascii=False)})


# --- claim ----------------------------------------------------------------------------------------
def _claim_postgresql(connection: Connection, wanted: Claim) -> _Rows:
    return connection.execute(
        statement("claim_postgresql"),
        {
            "queues": list(wanted.queues),
            "limit": wanted.limit,
            "now": wanted.now,
            "until": wanted.until,
            "by": wanted.by,
            "token": wanted.token,
            "ids": [lease.key for lease in wanted.done],
            "tokens": [lease.token for lease in wanted.done],
        },
    ).all()


def _queue_by_queue(
    claim: Callable[[Connection, Claim, str, int], _Rows],
) -> Callable[[Connection, Claim], _Rows]:
    def claim_all(connection: Connection, wanted: Claim) -> _Rows:
        if wanted.done:
            leases.ack(connection, wanted.done)
        paused = pauses.paused(connection, wanted.now)
        taken: list[Row[Any]] = []
        for queue in wanted.queues:
            if queue not in paused and len(taken) < wanted.limit:
                taken += claim(connection, wanted, queue, wanted.limit - len(taken))
        return taken

    return claim_all


def _claim_sqlite(connection: Connection, wanted: Claim, queue: str, limit: int) -> _Rows:
    marks = {"until": wanted.until, "by": wanted.by, "token": wanted.token}
    return connection.execute(
        statement("claim_sqlite"), {"queue": queue, "limit": limit, **marks}
    ).all()


def _claim_mysql(connection: Connection, wanted: Claim, queue: str, limit: int) -> _Rows:
    rows = connection.execute(statement("claim_mysql"), {"queue": queue, "limit": limit}).all()
    if rows:
        marks = {
            "until": wanted.until,
            "by": wanted.by,
            "token": wanted.token,
            "ids": [row.id for row in rows],
        }
        connection.execute(statement("take_mysql"), marks)
    return rows


# --- the time -------------------------------------------------------------------------------------
def _server_time(query: str) -> Callable[[Connection], float]:
    return lambda connection: float(connection.execute(text(query)).scalar_one())


SQLITE = Dialect(
    "sqlite",
    _insert,
    _queue_by_queue(_claim_sqlite),
    lambda _connection: clock.now(),
    skip_locked="",
)
POSTGRESQL = Dialect(
    "postgresql",
    _insert_postgresql,
    _claim_postgresql,
    _server_time("SELECT extract(epoch FROM clock_timestamp())"),
    one_statement=True,
)
MYSQL = Dialect(
    "mysql",
    _insert,
    _queue_by_queue(_claim_mysql),
    # Not UNIX_TIMESTAMP(NOW(6)): it goes through local time, which has an hour twice in autumn.
    _server_time(
        "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) / 1000000"
    ),
)

DIALECTS = {"sqlite": SQLITE, "postgresql": POSTGRESQL, "mysql": MYSQL, "mariadb": MYSQL}
