"""Instants beyond the calendar in every column and message: no command and no page fails for them.

One job with `eta=datetime.max` used to make `jobs list` a traceback for as long as it was there.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

from celery.schedules import crontab
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Double, update

from relevo import clock
from relevo.drivers.contract import NewJob, State
from relevo.drivers.database import tables as broker_tables
from relevo.limits.contract import Holder
from relevo.limits.database import tables as limit_tables
from relevo.middleware.limit_context import limits_for
from relevo.schedule import operations
from relevo.schedule.beat import Scheduler
from relevo.store import failed, outcomes, tables, watched_tags
from relevo.store.batches import MemberEnd
from relevo.store.failed import FailedJob
from relevo.store.history import Ended, EndedJob
from relevo.store.outcomes import Ending
from tests.support.commands import our_commands
from tests.support.hostile_instants import EDGES, LAST, instants
from tests.support.workers import payload_of

#: Every column of a time, in every table.
COLUMNS = [
    column
    for module in (tables, broker_tables, limit_tables)
    for table in module.metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, Double)
]
PAGES = [
    "/overview",
    "/jobs",
    *(f"/jobs?state={state}" for state in ("pending", "delayed", "running", "completed")),
    *(f"/job/{name}" for name in ("soon", "later", "held", "over", "broken")),
    "/failed",
    "/batches",
    "/limits",
    "/charts",
    "/tags",
    "/pauses",
    "/schedule",
    "/schedule/entry?entry=nightly",
    "/schedule/entry?entry=often",
    "/audit",
    "/broker",
]
COMMANDS = [
    "jobs list",
    *(f"jobs list --state {state}" for state in (*State, *Ended)),
    *(f"jobs show {name}" for name in ("soon", "later", "held", "over", "broken")),
    "queues list",
    *(f"queues peek default --state {state}" for state in State),
    "pauses list",
    "failed list",
    "failed show 1",
    "batches list",
    "outbox status",
    "limits list",
    "schedule list",
    "schedule history",
]


def payload(job_id, deadline=LAST):
    message = json.loads(payload_of("images.process", job_id, [1], "default"))
    message["headers"]["eta"] = "9999-12-31T23:59:59.999999"
    message["headers"]["expires"] = "9999-12-31T23:59:59.999999+00:00"
    message["headers"]["relevo"] = {"deadline": deadline, "tags": ["a"]}
    return json.dumps(message)


def failure(at):
    error = {
        "attempt": 1,
        "exception": "ValueError",
        "message": "no",
        "traceback": "Traceback…",
        "at": at,
    }
    return FailedJob(
        uuid="broken",
        queue="default",
        connection="database",
        payload=payload("broken", at),
        exception="ValueError",
        message="no",
        failed_at=clock.now(),
        task="images.process",
        tags=("a",),
        attempts=1,
        errors=(error,),
    )


class Shop:
    """A dashboard and the commands of an app with a row in as many tables as there are readers."""

    def __init__(self, site, app) -> None:
        self.site, self.app = site, app
        self.store, driver = site.dashboard.source.store, site.dashboard.source.driver
        app.conf.beat_schedule = {
            "nightly": {
                "task": "images.process",
                "schedule": crontab(minute=7, hour=4),
                "args": [1],
            },
            "often": {"task": "images.process", "schedule": 60.0, "args": [1]},
        }
        Scheduler(app).tick()
        operations.run(app, "often", "ann")
        operations.pause(app, "nightly", 60)
        driver.pause("low", driver.now() + 60)
        driver.suspend("task:images.process", driver.now() + 60)
        for job_id, at in [("held", None), ("soon", None), ("later", driver.now() + 600)]:
            driver.put([NewJob("default", payload(job_id), job_id, available_at=at)])
        (held,) = driver.reserve(["default"], 1, 600, "worker")
        limits_for(driver).take("overlap/x", 1, Holder(held.lease.token, "held", "images.process"))
        process = app.tasks["images.process"]
        self.batch = app.batch([process.s(number) for number in range(2)]).dispatch().id
        app.chain(process.si(1), process.si(2)).dispatch()
        ends = [
            EndedJob(job_id, "images.process", "database", "default", state, 1, clock.now(), 1, 2)
            for job_id, state in [("over", Ended.COMPLETED), ("broken", Ended.FAILED)]
        ]
        member = MemberEnd(self.batch, 0, "completed", "over")
        outcomes.write(self.store, [Ending(ends[0], members=(member,)), Ending(ends[1])])
        self.store.write(lambda connection: failed.record(connection, [failure(clock.now())]))
        watched_tags.watch(self.store, "a")
        self.rows = self.store.read(
            lambda connection: {
                table: [dict(row) for row in connection.execute(table.select()).mappings()]
                for table in {column.table for column in COLUMNS}
            }
        )

    def fill(self, values):
        """The rows as they were made, with these values in turn in all columns of a time."""

        def write(connection):
            for table, rows in self.rows.items():
                connection.execute(table.delete())
                if rows:
                    connection.execute(table.insert(), rows)
            for number, column in enumerate(COLUMNS):
                value = values[number % len(values)]
                if column is tables.batches.c.finished_at:
                    value = value or 1.0  # 0 says that the batch is being deleted
                connection.execute(update(column.table).values({column.name: value}))
            deadline = values[0]
            for each in (broker_tables.jobs, tables.failed):
                connection.execute(update(each).values(payload=payload("soon", deadline)))

        self.store.write(write)

    def errors(self):
        """What any page, route or command says that is no answer."""
        found = []
        for page in [*PAGES, f"/batch/{self.batch}"]:
            answer = self.site.ask(page)
            if answer.code != 200:
                found.append((page, answer.code, answer.body[-500:]))
            answer = self.site.ask(f"/api/relevo{page}")
            if answer.code not in {200, 404}:
                found.append((f"/api/relevo{page}", answer.code, answer.body[-500:]))
            elif error := strict(answer.body):
                found.append((f"/api/relevo{page}", error))
        for line in [*COMMANDS, f"batches show {self.batch}"]:
            name, *words = line.split()
            for more in ([], ["--json"]):
                result = CliRunner().invoke(
                    our_commands()[name], [*words, *more], obj=SimpleNamespace(app=self.app)
                )
                if result.exit_code:
                    found.append((line, more, result.output[-300:], repr(result.exception)))
                elif more and (error := strict(result.output)):
                    found.append((line, error))
        return found


def strict(text):
    """What a parser that keeps to the standard says against this JSON."""

    def refuse(word):
        raise ValueError(word)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError as error:
        return repr(error)
    return None


def test_no_reader_fails_for_an_instant_that_no_calendar_has(site, app):
    shop = Shop(site, app)
    assert shop.errors() == []

    @settings(
        max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(instants(), min_size=1, max_size=5))
    @example([LAST])
    @example([float("inf")])
    @example([-1e18])
    @example(list(EDGES))
    def fails_nowhere(values):
        shop.fill(values)
        assert shop.errors() == []

    fails_nowhere()
