"""Texts that UTF-8, SQL or a terminal can't take, through the whole life of a job, on every broker.

Random texts with half surrogate pairs, NULs and escapes come in wherever users' code gives a text:
arguments, headers, `argsrepr`, tags, the text of an error. The job is
dispatched, fails, is released, fails for good, is listed and shown, and retried. The worker must
live, every attempt must count, and a body must get what stock Celery's JSON would have given it.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from celery.contrib.testing.worker import start_worker
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from relevo import config, events
from relevo.app import create_app
from relevo.cli.failed import failed as failed_command
from relevo.cli.jobs import jobs as jobs_command
from relevo.database.schema import create_schema
from relevo.drivers import driver_for
from relevo.operations import retry
from relevo.store import failed
from relevo.store.store import store_for
from tests.support.brokers import BROKERS
from tests.support.waits import LONG, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = 8
PIECES = ["caf\udce9.jpg", "\0", "\ud83d", "\ude00", "\x1b[31m", "\u2028", "\x85", "'\"\\", "%s{x}"]
WAYS = ["delay", "header", "argsrepr", "batch", "session"]

texts = st.lists(
    st.sampled_from(PIECES) | st.text(st.characters(), max_size=8), min_size=1, max_size=4
).map("".join)


class WordlessError(Exception):
    """An error that has no text: both ways to it raise."""

    def __str__(self) -> str:
        raise ValueError(self.args[0])

    __repr__ = __str__


class Jobs:
    """An app on one broker, with what its jobs have got and how they ended."""

    def __init__(self, app: Any) -> None:
        self.app, self.store = app, store_for(app.settings.database_url)
        self.got: list[tuple[str, Any, Any]] = []
        self.hooks: list[str] = []
        self.heard: list[Any] = []
        got = self.got

        @app.task(bind=True, name="hostile", tries=2, backoff=0, tags=lambda text, **_: [text[:99]])
        def hostile(self: Any, text: str, kind: str = "error") -> None:
            got.append((self.request.id, text, (self.request.headers or {}).get("said")))
            raise {"error": ValueError, "wordless": WordlessError}[kind](text)

        hostile.failed(lambda job, _error: self.hooks.append(job.id))

        @app.task(name="plain")
        def plain(text: str) -> str:
            return text

        self.hostile, self.plain = hostile, plain

    def dispatch(self, way: str, text: str, kind: str) -> str:
        """Dispatch a job; returns its id."""
        task, id_ = self.hostile, str(uuid.uuid4())
        sent = {"args": (text,), "kwargs": {"kind": kind}, "task_id": id_}
        match way:
            case "header":
                task.apply_async(**sent, headers={"said": text})
            case "argsrepr":
                task.apply_async(**sent, argsrepr=text, kwargsrepr=text)
            case "batch":
                # The message of the second is made by a template.
                members = [task.s(text, kind=kind).set(ignore_result=True) for _ in range(2)]
                before = {each.uuid for each in failed.page(self.store, limit=1000)}
                self.app.batch(members).allow_failures().dispatch()
                eventually(lambda: len(self.ended(before)) == 2)
                return self.ended(before).pop()
            case "session":
                with Session(self.store.engine) as session:
                    task.apply_async(**sent, session=session)
                    session.commit()
            case _:
                task.apply_async(**sent)
        return id_

    def ended(self, before: set[str]) -> set[str]:
        """The ids of the jobs that have failed for good, without those that had `before`."""
        return {each.uuid for each in failed.page(self.store, limit=1000)} - before


@pytest.fixture(scope="module", params=BROKERS)
def jobs(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Jobs]:
    folder = tmp_path_factory.mktemp("texts")
    url, environ = f"sqlite:///{folder}/store.sqlite3", {"RELEVO_VAR_DIR": str(folder)}
    if request.param in ("postgresql", "mariadb"):
        url = request.getfixturevalue(f"{request.param}_url")
    if request.param == "redis":
        environ |= {"QUEUE_CONNECTION": "redis"}
        environ |= {"REDIS_URL": request.getfixturevalue("redis_url")}
    more = {"broker_url": f"relevo://{folder.name}"} if request.param == "memory" else {}
    environ = {"QUEUE_CONNECTION": "database", "DATABASE_URL": url, **environ}
    app = create_app(
        "shop", config.load(environ, None), task_default_queue=f"texts-{folder.name}", **more
    )
    store_for(url).administer(create_schema)
    driver = driver_for(app.conf.broker_url)
    if hasattr(driver, "create_schema"):
        driver.create_schema()
    made = Jobs(app)
    for name in ("released", "failed", "processed", "reserved"):
        events.on(name)(made.heard.append)
    with start_worker(
        app, pool="solo", perform_ping_check=False, shutdown_timeout=LONG, loglevel="CRITICAL"
    ):
        yield made
    events.remove(made.heard.append)
    for queue in driver.queues():
        driver.clear(queue)
    failed.flush(made.store, 0)


@pytest.fixture
def run(jobs: Jobs) -> Callable[..., str]:
    """Call a command; returns its output, which every terminal can show."""

    def run(command: Any, *words: str) -> str:
        done = CliRunner().invoke(command, words, obj=SimpleNamespace(app=jobs.app))
        assert done.exit_code == 0, (done.output, done.exception)
        done.output.encode()
        return done.output

    return run


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # to make a failing text smaller would be to wait for it each time
    suppress_health_check=list(HealthCheck),
)
@given(text=texts, way=st.sampled_from(WAYS), kind=st.sampled_from(["error", "wordless"]))
def test_a_job_with_any_text_is_tried_again_recorded_shown_and_retried(jobs, run, text, way, kind):
    # Given a job with this text, whose error has it too
    id_ = jobs.dispatch(way, text, kind)
    as_json = json.loads(json.dumps(text))

    # I expect both attempts to get the text as JSON carries it, and the hook to run once
    eventually(lambda: failed.find_by_uuid(jobs.store, id_))
    runs = [(got, said) for of, got, said in jobs.got if of == id_]
    assert runs == [(as_json, as_json if way == "header" else None)] * 2
    assert jobs.hooks.count(id_) == 1

    # and the failed store to have every attempt, with texts that UTF-8 can hold
    job = failed.find_by_uuid(jobs.store, id_)
    assert (job.attempts, len(job.errors)) == (2, 2)
    for each in (job.message, job.arguments, *job.tags, *map(json.dumps, job.errors)):
        each.encode()
        assert "\0" not in each

    # and the commands to show it
    for words in (["list"], ["list", "--json"], ["show", id_], ["show", id_, "--json"]):
        run(failed_command, *words)
    run(jobs_command, "list")
    run(jobs_command, "show", id_)

    # When it is retried, I expect the same text again, and the worker to run other jobs
    # (to the app's own broker: no connection of the settings is in memory)
    assert retry.put_jobs(jobs.app, [replace(job, connection="here")]) == [job.id]
    eventually(lambda: jobs.hooks.count(id_) == 2)
    assert {got for of, got, _ in jobs.got if of == id_} == {as_json}
    assert jobs.plain.delay(text).get(timeout=LONG) == as_json
