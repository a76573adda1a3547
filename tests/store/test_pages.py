"""What is old goes in pages: no transaction deletes many rows, none waits for a locked one, and
nothing stays.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, func, insert, select

from relevo.store import (
    audit,
    batches,
    failed,
    history,
    metrics,
    outbox,
    outcomes,
    pages,
    receipts,
    schedules,
    tables,
)
from relevo.store.batch_counts import COMPLETED
from relevo.store.batches import MemberEnd
from relevo.store.history import Ended
from tests.store.test_batches import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from relevo.store.store import Store

ROWS, PAGE = 45, 10
OLD, NOW = 1000.0, 1_000_000.0

HISTORY = {
    "task": "t",
    "connection": "c",
    "queue": "q",
    "state": "completed",
    "attempts": 1,
    "tags": "[]",
    "arguments": "",
    "message": "",
    "ended_at": OLD,
}
FAILED = {
    "connection": "c",
    "queue": "q",
    "payload": "{}",
    "tags": "[]",
    "attempts": 1,
    "errors": "[]",
    "exception": "E",
    "message": "",
    "failed_at": OLD,
}
METRIC = {"minute": 60, "kind": "task", "measure": "ran", "bucket": 1, "jobs": 1, "seconds": 1}
RUN = {"entry": "e", "due": OLD, "at": OLD, "job_id": "j", "state": "completed"}

#: For each table: the row of a number, and what deletes it.
PRUNES: dict[str, tuple[Callable[[int], dict], Callable[[Store], object]]] = {
    "receipts": (
        lambda n: {"name": f"r{n}", "at": OLD},
        lambda store: receipts.prune(store, NOW),
    ),
    "metrics": (lambda n: METRIC | {"name": f"t{n}"}, lambda store: metrics.prune(store, NOW)),
    "audit": (
        lambda n: {"at": OLD + n, "who": "w", "action": "a", "target": "t", "outcome": ""},
        lambda store: audit.prune(store, NOW),
    ),
    "history": (
        lambda n: HISTORY | {"uuid": f"j{n}"},
        lambda store: history.prune(store, Ended.COMPLETED, NOW),
    ),
    "failed": (lambda n: FAILED | {"uuid": f"j{n}"}, lambda store: failed.prune(store, NOW)),
    "runs": (
        lambda n: RUN | {"tick": str(n)},
        lambda store: schedules.prune(store, NOW),
    ),
    "tags": (
        lambda n: {"tag": "t", "uuid": f"j{n}", "at": OLD},
        lambda store: outcomes.prune(store, outcomes.Retention(1.0, 1.0, 1.0)),
    ),
}


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch, now):
    now(NOW)
    for module in (pages, failed, schedules):
        monkeypatch.setattr(module, "PAGE", PAGE)


@pytest.fixture
def deleted(store) -> Iterator[list[int]]:
    """How many rows each transaction has deleted."""
    counts = [0]

    def count(_connection, cursor, statement, *_):
        if statement.startswith("DELETE"):
            counts[-1] += cursor.rowcount

    def end(_connection):
        counts.append(0)

    event.listen(store.engine, "after_cursor_execute", count)
    event.listen(store.engine, "commit", end)
    yield counts
    event.remove(store.engine, "after_cursor_execute", count)
    event.remove(store.engine, "commit", end)


def fill(store, table, row, rows=ROWS):
    store.write(lambda c: c.execute(insert(tables_of(table)), [row(n) for n in range(rows)]))


def tables_of(name):
    return getattr(tables, name)


def count(store, name):
    query = select(func.count()).select_from(tables_of(name))
    return store.read(lambda c: c.execute(query).scalar_one())


@pytest.mark.parametrize("table", PRUNES)
def test_old_rows_go_in_pages_and_none_stays(store, deleted, table):
    row, prune = PRUNES[table]
    fill(store, table, row)
    prune(store)
    assert count(store, table) == 0
    assert sum(deleted) >= ROWS
    assert max(deleted) <= PAGE


def test_a_page_of_kept_tags_hides_no_old_one_behind_it(store, deleted):
    fill(store, "tags", PRUNES["tags"][0])
    kept = [FAILED | {"uuid": f"j{n}"} for n in range(30)]
    store.write(lambda c: c.execute(insert(tables.failed), kept))
    outcomes.prune(store, outcomes.Retention(1.0, 1.0, 1.0))
    assert count(store, "tags") == 30
    assert max(deleted) <= PAGE


def finish(store, id_, members):
    opened(store, id_, total=members, at=OLD)
    ends = [MemberEnd(id_, number, COMPLETED, f"{id_}.{number}") for number in range(members)]
    store.write(batches.prepare_ends(ends, outbox.add))


def test_a_batch_is_forgotten_at_once_and_its_members_go_in_pages(store, deleted, now):
    finish(store, "big", ROWS)
    finish(store, "small", 2)
    assert batches.prune(store, finished=NOW + 1) == 2
    assert (count(store, "batches"), count(store, "members")) == (0, 0)
    assert max(deleted) <= PAGE + 2


def test_a_prune_that_died_halfway_is_finished_by_the_next(store, monkeypatch):
    finish(store, "big", ROWS)
    with monkeypatch.context() as patch:
        patch.setattr(batches, "_delete_forgotten", lambda _connection: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            batches.prune(store, finished=NOW + 1)
    assert batches.find(store, "big") is None
    assert batches.page(store) == []
    assert not store.read(lambda c: batches.exists(c, "big"))
    batches.prune(store, finished=NOW + 1)
    assert (count(store, "batches"), count(store, "members")) == (0, 0)


def test_an_end_that_is_recorded_while_its_batch_is_forgotten_leaves_no_member(store, monkeypatch):
    # Given a recorder that reports an end of a batch before each step that forgets it
    finish(store, "b", ROWS)

    numbers = iter(range(1000, 2000))

    def report(connection):
        end = MemberEnd("b", next(numbers), COMPLETED, "late")
        batches.prepare_ends([end], outbox.add)(connection)

    write = store.write

    def write_late(work):
        write(report)
        return write(work)

    monkeypatch.setattr(store, "write", write_late)
    batches.prune(store, finished=NOW + 1)
    write(report)
    assert (count(store, "batches"), count(store, "members")) == (0, 0)


def test_a_batch_whose_members_are_just_counted_is_left_to_the_next_prune(store):
    if store.dialect == "sqlite":
        return  # it has one writer
    finish(store, "b", 3)
    with store.engine.begin() as connection:  # a recorder, before its commit
        late = [MemberEnd("b", 7, COMPLETED, "late")]
        batches.prepare_ends(late, outbox.add)(connection)
        done = threading.Event()
        gone: list[int] = []

        def prune():
            gone.append(batches.prune(store, finished=NOW + 1))
            done.set()

        thread = threading.Thread(target=prune)
        thread.start()
        was_free = done.wait(30)
    thread.join()
    assert was_free
    assert gone == [0]
    assert batches.prune(store, finished=NOW + 1) == 1
    assert (count(store, "batches"), count(store, "members")) == (0, 0)


YOUNG = {"receipts": "at", "metrics": "minute", "audit": "at", "history": "ended_at"}


@pytest.mark.parametrize("table", YOUNG)
def test_a_row_that_a_transaction_has_locked_is_not_waited_for(store, table):
    if store.dialect == "sqlite":
        return  # it has one writer
    # Given rows to keep, because MariaDB reads a small table as a whole, the locked row too
    row, prune = PRUNES[table]
    fill(store, table, lambda n: row(n + ROWS) | {YOUNG[table]: NOW + 60}, 1000)
    fill(store, table, row)
    old = tables_of(table).c[YOUNG[table]] < NOW
    with store.engine.begin() as connection:
        connection.execute(select(tables_of(table)).where(old).limit(1).with_for_update())
        prune(store)
        assert count(store, table) == 1000 + 1
    prune(store)
    assert count(store, table) == 1000
