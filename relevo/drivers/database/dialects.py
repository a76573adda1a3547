"""What differs between the databases: how jobs are claimed, how rows are locked, what time it is there.

Hot statements live in `sql/`, one file each; everything else is SQLAlchemy and the same for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from sqlalchemy import BindParameter, Connection, Row, TextClause, bindparam, text


@dataclass(frozen=True, slots=True)
class Claim:
    """One reservation: up to `limit` jobs of `queue`, until an instant, under `token` (a job's is this and its id)."""

    queue: str
    limit: int
    now: float
    until: float
    by: str
    token: str

    def parameters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Dialect:
    """One database's ways."""

    name: str
    claim: Callable[[Connection, Claim], Sequence[Row[Any]]]
    server_time: Callable[[Connection], float]
    skip_locked: str = "FOR UPDATE SKIP LOCKED"

    def locking(self, name: str) -> TextClause:
        """The statement `name` with this database's way of skipping rows that another transaction holds."""
        return statement(name, self.skip_locked)


@cache
def statement(name: str, skip: str = "") -> TextClause:
    """The statement in `sql/<name>.sql`; `:ids` and `:queues` take lists."""
    source = files(__package__).joinpath("sql", f"{name}.sql").read_text("utf-8")
    lines = [line for line in source.replace("{skip}", skip).splitlines() if not line.startswith("--")]
    clause = text("\n".join(lines))
    lists: list[BindParameter[Any]] = [bindparam(key, expanding=True) for key in ("ids", "queues") if f":{key}" in clause.text]
    return clause.bindparams(*lists)


def _claim_returning(name: str) -> Callable[[Connection, Claim], Sequence[Row[Any]]]:
    def claim(connection: Connection, wanted: Claim) -> Sequence[Row[Any]]:
        rows = connection.execute(statement(name), wanted.parameters()).all()
        return sorted(rows, key=lambda row: (row.priority, row.available_at, row.id))  # RETURNING has no order

    return claim


def _claim_mysql(connection: Connection, wanted: Claim) -> Sequence[Row[Any]]:
    paused = text("SELECT 1 FROM relevo_pauses WHERE queue = :queue AND (until IS NULL OR until > :now)")
    if connection.execute(paused, {"queue": wanted.queue, "now": wanted.now}).first():
        return []
    rows = connection.execute(statement("claim_mysql"), {"queue": wanted.queue, "limit": wanted.limit}).all()
    if rows:
        marked = {"until": wanted.until, "by": wanted.by, "token": wanted.token, "ids": [row.id for row in rows]}
        connection.execute(statement("take_mysql"), marked)
    return rows


def _local_time(_connection: Connection) -> float:
    return time.time()


def _asked(query: str) -> Callable[[Connection], float]:
    return lambda connection: float(connection.execute(text(query)).scalar_one())


SQLITE = Dialect("sqlite", _claim_returning("claim_sqlite"), _local_time, skip_locked="")
POSTGRESQL = Dialect("postgresql", _claim_returning("claim_postgresql"),
                     _asked("SELECT extract(epoch FROM clock_timestamp())"))
MYSQL = Dialect("mysql", _claim_mysql, _asked("SELECT UNIX_TIMESTAMP(NOW(6))"))

DIALECTS = {"sqlite": SQLITE, "postgresql": POSTGRESQL, "mysql": MYSQL, "mariadb": MYSQL}
