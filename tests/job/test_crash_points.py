"""A crash at every step of a batch's life, one at a time: whatever is half done, the counts come out exact.

The process that dispatches, records, relays or commits is killed before its k-th statement or commit, for every k until
it comes to its end alive. Then everything is done again that somebody would do: the same dispatch, the redelivery of
what was not acked, a relay. There is no worker: jobs are taken from the broker and recorded as its recorder would.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from relevo import clock, config
from relevo.app import create_app
from relevo.drivers import messages
from relevo.drivers.database.table import jobs as jobs_table
from relevo.engine import make_engine
from relevo.job import launch, members
from relevo.job.delivery import delivery_of
from relevo.store import dispatching, outbox, outcomes, tally
from relevo.store.batches import ended_members
from relevo.store.outcomes import Ending
from relevo.store.tables import metadata

MEMBERS = 3
TABLES = (*metadata.tables.values(), jobs_table)


class Killed(BaseException):
    """The process is gone: nothing of it is done any more, but what the database does when a connection ends."""


class Fate:
    """Kills this thread before the k-th of its statements and commits."""

    def __init__(self):
        self.steps, self.at, self.thread = 0, None, threading.get_ident()

    def step(self, connection, *_event):
        if threading.get_ident() == self.thread and self.at is not None:
            self.steps += 1
            if self.steps == self.at:
                self.struck = True
                connection.invalidate()
                raise Killed

    @contextmanager
    def at_step(self, number):
        """Within the block the thread is killed at this step, if it comes so far; it ends the block."""
        self.steps, self.at, self.struck = 0, number, False
        try:
            yield self
        except BaseException:  # whatever was still said after its death
            if not self.struck:
                raise
        finally:
            self.at = None


@pytest.fixture
def fate():
    fate = Fate()
    event.listen(Engine, "before_cursor_execute", fate.step)
    event.listen(Engine, "commit", fate.step)
    yield fate
    event.remove(Engine, "before_cursor_execute", fate.step)
    event.remove(Engine, "commit", fate.step)


@pytest.fixture(scope="module", params=[False, True], ids=["one database", "broker apart"])
def life(request, tmp_path_factory):
    return Life(shop_in(tmp_path_factory.mktemp("crash"), apart=request.param), apart=request.param)


def shop_in(folder, apart):
    """An app whose broker is its store's database, or another one."""
    said = {"QUEUE_CONNECTION": "database", "DATABASE_URL": f"sqlite:///{folder}/relevo.sqlite3",
            "RELEVO_VAR_DIR": str(folder), "QUEUE_RESULTS": "none"}  # fmt: skip
    broker = {"broker_url": f"sqlite:///{folder}/broker.sqlite3"} if apart else {}
    app = create_app("shop", config.load(said, None), task_default_queue="crash", **broker)

    @app.task(name="member", shared=False)
    def member(number): ...

    @app.task(name="told", shared=False)
    def told(batch, what): ...

    return app


class Life:
    """The life of a batch, as often as one likes."""

    def __init__(self, app, apart):
        self.app, self.way, self.apart = app, delivery_of(app), apart
        self.driver = self.way.broker_of("database")

    def begin(self):
        """Nothing has been dispatched."""
        self.told, self.working_on, self.held = Counter(), set(), []
        self.way.store.write(lambda connection: [connection.execute(table.delete()) for table in TABLES])
        self.driver.clear("crash")

    def new(self):
        member, told = self.app.tasks["member"], self.app.tasks["told"]
        new = self.app.batch(member.si(n) for n in range(MEMBERS)).allow_failures()
        for callback in ("before", "then", "catch", "finally_"):
            new = getattr(new, callback)(told.s(callback))
        return new

    def dispatch(self, session=False):
        if not session:
            return self.new().dispatch(id="b")
        engine = make_engine(self.app.settings.database_url)
        try:
            with Session(engine) as opened:
                batch = self.new().dispatch(id="b", session=opened)
                opened.commit()
                return batch
        finally:
            engine.dispose()

    def work(self, failing=()):
        """What workers do until nothing is left: every job is run, recorded, acked; the outbox is relayed."""
        while True:
            self.way.forward_all()
            jobs = self.driver.reserve(["crash"], 2, 60, "test")
            if not jobs:
                return
            self.held, self.working_on = [job.lease for job in jobs], {job.id for job in jobs}
            outcomes.write(self.way.store, [self.run(job, failing) for job in jobs], self.way)
            self.driver.ack(self.held)
            self.held, self.working_on = [], set()

    def run(self, job, failing):
        headers, (args, _, embed) = messages.headers_of(job.payload), messages.body_of(job.payload)
        if headers["task"] == "told":
            self.told[args[1]] += 1
        state = tally.FAILED if headers["task"] == "member" and args[0] in failing else tally.COMPLETED
        sent = job.id if headers.get(members.SENT) else None
        return Ending(members=members.ends_of_message(headers, embed, job.id, state), sent=sent)

    def dies(self):
        """What the one who was killed held comes back."""
        self.way._written_to.clear()
        self.driver.release(self.held)

    def is_exact(self, killed_in=(), failing=()):
        """The counts, the rows behind them, and what was told: each once, but what was killed before its ack."""
        batch = self.app.batches.find("b")
        failed = len(failing)
        assert (batch.total, batch.completed, batch.failed) == (MEMBERS, MEMBERS - failed, failed)
        assert batch.finished
        assert [end.member for end in ended_members(self.way.store, "b")] == list(range(MEMBERS))
        expected = {"before", "finally_", "catch" if failing else "then"}
        assert set(self.told) == expected
        for what, times in self.told.items():
            again = f"b.{what.rstrip('_')}" in killed_in
            assert times == 1 or (again and times == 2), (what, times, killed_in)
        assert outbox.status(self.way.store) == []
        assert self.driver.queues() == []


@pytest.mark.parametrize("part", ["dispatch", "dispatch in a session", "work"])
def test_a_crash_at_every_step(life, fate, part):
    failing = (1,) if life.apart else ()  # what is told then, on the one; what is told of a failure, on the other
    number, fate.struck = 0, True
    while fate.struck:
        number += 1
        life.begin()
        if part.startswith("dispatch"):
            with fate.at_step(number):
                life.dispatch(session="session" in part)
        else:
            life.dispatch()
            with fate.at_step(number):
                life.work(failing)
        killed_in = life.working_on
        life.dies()
        life.dispatch()
        life.work(failing)
        life.is_exact(killed_in, failing)
    assert number > 5


def test_what_nobody_dispatches_any_more_is_ended_and_its_then_never_comes(life, fate, monkeypatch):
    life.begin()
    with fate.at_step(12):
        life.dispatch()
    life.dies()
    assert fate.struck
    assert life.app.batches.find("b").row.tally.streams == 1
    launch.abandon(life.way)
    life.work()
    assert not life.app.batches.find("b").finished
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + dispatching.SILENT + 1)
    life.way.store.write(lambda connection: dispatching.says(connection, "b"))
    launch.abandon(life.way)
    assert not life.app.batches.find("b").finished
    monkeypatch.setattr(clock, "now", lambda: now + 2 * dispatching.SILENT + 2)
    launch.abandon(life.way)
    launch.abandon(life.way)
    life.work()
    batch = life.app.batches.find("b")
    assert batch.finished
    assert batch.failed == 1
    assert life.told == {"before": 1, "catch": 1, "finally_": 1}
    assert life.dispatch().finished
