"""The life of a batch, a chain or a chord without a worker, killed at a chosen step.

Jobs are taken from the broker, run by Celery's own tracer as in a pool process, and recorded as the
worker's recorder would. `Fate` kills the thread that does all this before its k-th statement,
commit or script.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager

from celery import chord
from celery.app.trace import build_tracer
from celery.exceptions import WorkerTerminate
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from relevo import config
from relevo.app import create_app
from relevo.database.engine import make_engine
from relevo.dispatch.delivery import delivery_of
from relevo.drivers import driver_for, message_codec
from relevo.drivers.database.tables import jobs as jobs_table
from relevo.drivers.redis.scripts import Scripts
from relevo.job import membership
from relevo.store import batch_counts, outbox, outcomes
from relevo.store.batches import ended_members
from relevo.store.outcomes import Ending
from relevo.store.tables import metadata

QUEUE, MEMBERS = "crash", 3
TABLES = (*metadata.tables.values(), jobs_table)


class Killed(WorkerTerminate):
    """The process is gone. Only what the database does at the end of a connection is still done."""


class Fate:
    """Kills this thread before the k-th of its steps: a statement or a commit. With `whole`, the
    steps are before and after each transaction and each script of Redis, which can't be half
    done.
    """

    def __init__(self):
        self.whole, self.steps, self.at, self.thread, self.pools = (
            False,
            0,
            None,
            threading.get_ident(),
            [],
        )
        self.struck = self.committed = False

    def statement(self, connection, *_event):
        if (not self.whole or self.committed) and connection.engine.pool in self.pools:
            self.step(connection)

    def commit(self, connection):
        if connection.engine.pool in self.pools:  # and not Celery's, which keeps results
            self.step(connection)
            self.committed = True

    def step(self, connection=None):
        self.committed = False
        if threading.get_ident() == self.thread and self.at is not None:
            self.steps += 1
            if self.steps == self.at:
                self.struck = True
                if connection is not None:
                    connection.invalidate()
                raise Killed

    def script(self, scripts, run, *arguments):
        self.step()
        answer = run(scripts, *arguments)
        self.step()
        return answer

    @contextmanager
    def at_step(self, number):
        """Kill the thread at this step, if it comes so far. That ends the block."""
        self.steps, self.at, self.struck, self.committed = 0, number, False, False
        try:
            yield self
        except BaseException:  # also errors raised after its death
            if not self.struck:
                raise
        finally:
            self.at = None

    @contextmanager
    def watching(self):
        """Count the steps within the block."""
        seen = (("before_cursor_execute", self.statement), ("commit", self.commit))
        for name, see in seen:
            event.listen(Engine, name, see)
        run, Scripts.run = Scripts.run, lambda *given: self.script(given[0], run, *given[1:])
        try:
            yield self
        finally:
            Scripts.run = run
            for name, see in seen:
                event.remove(Engine, name, see)


class Life:
    """What happens to jobs, repeatable. `failing`: the numbers of the members that fail."""

    def __init__(self, folder, store=None, broker=None):
        """Store and broker are one file, unless `urls` are given."""
        url = store or f"sqlite:///{folder}/relevo.sqlite3"
        said = {
            "QUEUE_CONNECTION": "database",
            "DATABASE_URL": url,
            "RELEVO_VAR_DIR": str(folder),
            "QUEUE_RESULTS": "database",
        }
        self.app = create_app(
            "shop", config.load(said, None), task_default_queue=QUEUE, broker_url=broker or url
        )
        self.way, self.failing = delivery_of(self.app), ()
        for server in (store, broker):
            if server and not server.startswith("redis"):
                driver_for(server).create_schema()
        self.driver = self.way.broker_of("database")
        self.pools = [self.way.store.engine.pool]
        if hasattr(self.driver, "connections"):
            self.pools.append(self.driver.connections.engine.pool)
        self.caller = make_engine(self.app.settings.database_url)  # who dispatches in a session
        self.pools.append(self.caller.pool)
        self._tasks()
        self.app.backend.session_manager.forked = (
            True  # as in a pool's process: one engine for all steps
        )
        self.app.backend.store_result("first", None, "SUCCESS")  # makes the tables

    def _tasks(self):
        def member(number):
            if number in self.failing:
                raise ValueError(number)
            return number

        self.app.task(member, name="member", shared=False, ignore_result=True)
        self.app.task(member, name="part", shared=False)

        @self.app.task(name="joined", shared=False, ignore_result=True)
        def joined(numbers):
            assert numbers == list(range(MEMBERS))

        @self.app.task(name="told", shared=False, ignore_result=True)
        def told(batch, what): ...

        @self.app.task(name="alarm", shared=False, ignore_result=True)
        def alarm(uuid): ...

    def begin(self, failing=()):
        """Nothing has been dispatched."""
        self.failing, self.ran, self.working_on, self.held = failing, [], set(), []
        self.way.store.write(
            lambda connection: [connection.execute(table.delete()) for table in TABLES]
        )
        self.driver.clear(QUEUE)

    def work(self):
        """Do what workers do until nothing is left: run, record and ack every job, send
        the outbox.
        """
        while True:
            self.way.forward_all()
            jobs = self.driver.reserve([QUEUE], 2, 60, "test")
            if not jobs:
                return
            self.held, self.working_on = [job.lease for job in jobs], {job.id for job in jobs}
            outcomes.write(self.way.store, [self.run(job) for job in jobs], self.way.hand_in)
            self.driver.ack(self.held)
            self.held, self.working_on = [], set()

    def run(self, job):
        headers, (args, kwargs, embed) = (
            message_codec.headers_of(job.payload),
            message_codec.body_of(job.payload),
        )
        request = {
            **headers,
            **embed,
            "args": args,
            "kwargs": kwargs,
            "delivery_info": {"routing_key": job.queue},
            "properties": {"correlation_id": job.id, message_codec.LEASED: True},
            "correlation_id": job.id,
            "hostname": "test",
            "is_eager": False,
        }
        task = self.app.tasks[headers["task"]]
        self.ran.append(
            (
                headers["task"],
                args[-1] if headers["task"] in ("member", "part", "told") else "",
                job.id,
            )
        )
        traced = build_tracer(task.name, task, app=self.app)(job.id, args, kwargs, request)
        state = batch_counts.COMPLETED if traced.info is None else batch_counts.FAILED
        sent = job.id if headers.get(membership.OUTBOX_HEADER) else None
        return Ending(
            members=membership.ends_of_message(headers, (args, kwargs, embed), job.id, state),
            outbox_id=sent,
        )

    def dies(self):
        """Release what the killed process held, as a rescue does."""
        self.driver.release(self.held)

    def in_session(self, dispatch):
        with Session(self.caller) as opened:
            dispatch(session=opened)
            opened.commit()

    def is_exact(self, killed_in, expected):
        """Whether each of the `expected` has run under one id, and once unless it was killed before
        its ack.
        """
        again = {(task, what) for task, what, id_ in self.ran if id_ in killed_in}
        times, ids = (
            Counter((task, what) for task, what, _ in self.ran),
            {id_ for *_, id_ in self.ran},
        )
        assert set(times) == expected
        assert len(ids) == len(expected)
        assert {each for each, count in times.items() if count > 1} <= again
        assert max(times.values(), default=0) <= 2
        assert outbox.status(self.way.store) == []
        sizes = self.driver.sizes(QUEUE)
        assert (sizes.pending, sizes.delayed, sizes.reserved) == (0, 0, 0)


class OfBatch:
    """A batch: dispatched again, it is the same one."""

    def __init__(self, life):
        self.life, self.app = life, life.app

    def new(self):
        member, told = self.app.tasks["member"], self.app.tasks["told"]
        new = self.app.batch(member.si(n) for n in range(MEMBERS)).allow_failures()
        for callback in ("before", "then", "catch", "finally_"):
            new = getattr(new, callback)(told.s(callback))
        return new

    def dispatch(self, **where):
        return self.new().dispatch(id="b", **where)

    def row(self):
        return self.app.batches.find("b")

    def is_exact(self, killed_in=()):
        row, failed = self.row(), len(self.life.failing)
        assert (row.total, row.completed, row.failed, row.finished) == (
            MEMBERS,
            MEMBERS - failed,
            failed,
            True,
        )
        assert [end.member for end in ended_members(self.life.way.store, row.id)] == list(
            range(MEMBERS)
        )
        expected = {("member", n) for n in range(MEMBERS)} | {
            ("told", "before"),
            ("told", "finally_"),
        }
        self.life.is_exact(killed_in, expected | {("told", "catch" if failed else "then")})


class OfChain(OfBatch):
    """A chain of ours. A link that runs twice dispatches the next one once."""

    def new(self):
        member, told = self.app.tasks["member"], self.app.tasks["told"]
        new = self.app.chain(*(member.si(n) for n in range(MEMBERS)))
        return new.then(told.s("then")).catch(told.s("catch")).finally_(told.s("finally_"))

    def is_exact(self, killed_in=()):
        row, failing = self.row(), self.life.failing
        links = range(failing[0] + 1 if failing else MEMBERS)
        assert (row.total, row.processed, row.failed, row.finished) == (
            MEMBERS,
            len(links),
            len(failing),
            True,
        )
        expected = {("member", n) for n in links} | {
            ("told", "catch" if failing else "then"),
            ("told", "finally_"),
        }
        self.life.is_exact(killed_in, expected)


class OfChord(OfBatch):
    """Celery's chord, frozen by hand: dispatched again, it is the same one."""

    def __init__(self, life):
        super().__init__(life)
        tasks = self.app.tasks
        body = tasks["joined"].s().on_error(tasks["alarm"].s())
        self.made = chord([tasks["part"].s(n) for n in range(MEMBERS)], body)
        self.made.freeze()

    def dispatch(self):
        self.made.apply_async()

    def row(self):
        [row] = self.app.batches.page()
        return row

    def is_exact(self, killed_in=()):
        row, failed = self.row(), len(self.life.failing)
        assert (row.total, row.completed, row.failed, row.finished) == (
            MEMBERS,
            MEMBERS - failed,
            failed,
            True,
        )
        expected = {("part", n) for n in range(MEMBERS)} | {("relevo.chord", "")}
        self.life.is_exact(killed_in, expected | {("alarm" if failed else "joined", "")})
