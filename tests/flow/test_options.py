"""Every option end to end, on SQLite, PostgreSQL and Redis: one worker a broker runs all cases."""

from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.orm import Session

from relevo.database.engine import engine_for
from relevo.drivers import driver_for
from relevo.drivers.contract import NewJob, State
from relevo.store import failed, history
from relevo.store.store import store_for
from tests.support.waits import LONG, eventually, stacks
from tests.support.workers import payload_of

if TYPE_CHECKING:
    from collections.abc import Iterator

MALFORMED = 1000
HOWS = {"killed": "WorkerLostError", "memory": "MemoryError", "timeout": "TimeLimitExceeded"}


class Live:
    """A worker of the app, its broker, and the ends of its jobs."""

    def __init__(self, url: str, folder: Any) -> None:
        self.folder = folder
        self.environ = {
            "LIVE_BROKER": url,
            "LIVE_DIR": str(folder),
            "LIVE_QUEUE": f"live-{uuid.uuid4().hex[:8]}",
        }
        os.environ |= self.environ
        sys.modules.pop("tests.support.apps.options", None)
        self.module = importlib.import_module("tests.support.apps.options")
        self.app = self.module.app
        self.driver = driver_for(url)
        if hasattr(self.driver, "create_schema"):
            self.driver.create_schema()
        self.store = store_for(self.module.settings.database_url)
        engine = engine_for(self.module.settings.database_url)
        self.module.Base.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all([self.module.Order(id=1), self.module.Order(id=2)])
        with Session(engine, expire_on_commit=False) as session:
            self.orders = [session.get(self.module.Order, number) for number in (1, 2)]
        with Session(engine) as session, session.begin():
            session.delete(session.get(self.module.Order, 2))
        self.jobs: dict[str, Any] = {}

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tests.support.apps.options",
            "worker",
            "-c",
            "4",
            "-l",
            "INFO",
        ]
        self.log = (self.folder / "log").open("wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(LONG)
        self.log.close()
        self.app.close()
        for name in self.environ:
            del os.environ[name]

    def sent(self, case: str, task: str, *args: Any, **options: Any) -> None:
        self.jobs[case] = self.app.tasks[task].apply_async(args, **options)

    def end_of(self, case: str) -> history.EndedJob:
        return self.ended(self.jobs[case].id)

    def ended(self, job_id: str) -> history.EndedJob:
        try:
            eventually(lambda: history.find(self.store, job_id))
        except BaseException:
            print((self.folder / "log").read_text(errors="replace")[-8000:])  # noqa: T201
            raise
        return history.find(self.store, job_id)

    def noted(self, word: str) -> list[list[Any]]:
        return [rest for first, *rest in self.module.facts() if first == word]


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "redis"])
def live(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp(f"live-{request.param}")
    file = f"sqlite:///{folder}/broker.db"
    url = file if request.param == "sqlite" else request.getfixturevalue(f"{request.param}_url")
    live = Live(url, folder)
    for how in HOWS:
        for at in (1, 2, 3):
            late = {"timeout": 5} if how == "timeout" else {}
            live.jobs[f"fall {how} {at}"] = (
                live.app.tasks["fall"].with_options(**late).dispatch(how, at)
            )
    live.sent("tries", "tries", 2)
    live.sent("tries less", "tries", 2, tries=2)
    for case in (
        "exceptions",
        "deadline",
        "timeout.once",
        "released",
        "failed",
        "held.back",
        "skipped",
        "autoretry",
        "retry.backoff",
        "time.limit",
        "soft.limit",
        "rate.limit",
        "plain",
        "starts",
    ):
        live.sent(case, case)
    live.sent("pay", "pay", live.orders[0])
    live.sent("gone", "gone", live.orders[1])
    live.sent("once", "once", "a", "fail")
    live.sent("once more", "once", "a")
    live.sent("expires", "expires", countdown=0.2, expires=0.1)
    live.sent("pydantic", "pydantic", {"weight": 7})
    live.start()
    try:
        yield live
    finally:
        live.end()


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("how", HOWS)
def test_each_killed_attempt_counts(live, how, at):
    end = live.end_of(f"fall {how} {at}")
    last = at == 3
    assert (end.state, end.attempts) == (("failed", 3) if last else ("completed", at + 1))
    assert [attempt for *case, attempt in live.noted("fall") if case == [how, at]] == [
        *range(1, end.attempts + 1)
    ]
    assert [
        rest
        for *case, rest in ([*fact[:2], fact[2:]] for fact in live.noted("fallen"))
        if case == [how, at]
    ] == ([[3, HOWS[how]]] if last else [])


ENDS = {
    "tries": ("completed", 3, ""),
    "tries less": ("failed", 2, "ValueError: 2"),
    "exceptions": ("failed", 2, "ValueError"),
    "timeout.once": ("failed", 1, "TimeLimitExceeded"),
    "released": ("completed", 1, ""),
    "failed": ("failed", 1, "no more"),
    "held.back": ("completed", 1, ""),
    "skipped": ("cancelled", 1, "not today"),
    "pay": ("completed", 2, ""),
    "gone": ("cancelled", 1, "Order 2 is gone"),
    "once": ("failed", 1, "ValueError"),
    "starts": ("completed", 1, ""),
    "autoretry": ("failed", 3, "ValueError"),
    "retry.backoff": ("failed", 2, "ValueError"),
    "time.limit": ("failed", 1, "TimeLimitExceeded"),
    "soft.limit": ("failed", 1, "SoftTimeLimitExceeded"),
    "rate.limit": ("completed", 1, ""),
    "expires": ("cancelled", 1, "expired"),
    "pydantic": ("completed", 1, ""),
    "plain": ("completed", 1, ""),
}


@pytest.mark.parametrize("case", ENDS)
def test_each_option_does_what_it_says(live, case):
    end = live.end_of(case)
    state, attempts, message = ENDS[case]
    assert (end.state, end.attempts) == (state, attempts)
    assert message in end.message


def test_a_deadline_ends_a_job_after_some_attempts(live):
    end = live.end_of("deadline")
    assert end.state == "failed"
    assert 1 <= end.attempts <= 4


def test_the_jobs_did_what_their_options_say(live):
    for case in ENDS:
        live.end_of(case)
    assert live.end_of("tries").tags == ("times:2",)
    assert live.module.paid() == [1]
    assert [word for word, *_ in live.module.facts() if word.endswith(", and run")] == []
    assert live.noted("pydantic") == [[7]]
    assert [retries for (retries,) in live.noted("autoretry")] == [0, 1, 2]
    first, second = (at for _, at in live.noted("retry.backoff"))
    assert second - first >= 0.9


def test_a_failed_job_has_freed_its_unique_key(live):
    assert live.jobs["once more"].is_duplicate
    assert live.jobs["once more"].id == live.jobs["once"].id
    live.end_of("once")
    eventually(lambda: not live.app.tasks["once"].dispatch("a").is_duplicate)


def test_a_job_that_is_unique_until_it_starts_may_be_followed_by_another(live):
    live.end_of("starts")
    assert live.noted("again") == [[False, True]]


def test_a_thousand_invalid_messages_are_kept_as_failed_and_the_worker_stays_up(live):
    dice = random.Random(7)
    queue = live.environ["LIVE_QUEUE"]
    jobs = [
        NewJob(queue, payload, f"bad-{number}")
        for number, payload in enumerate(nonsense(dice, queue))
    ]
    live.driver.put(jobs)
    live.sent("after", "plain")
    assert live.end_of("after").state == "completed"
    wanted = {job.id for job in jobs}
    eventually(lambda: wanted <= {job.uuid for job in failed.page(live.store, limit=10_000)})
    assert live.process.poll() is None


def nonsense(dice: random.Random, queue: str) -> Iterator[str]:
    good = payload_of("plain", "bad", [], queue)
    for number in range(MALFORMED - 1):
        match number % 5:
            case 0:
                yield dice.randbytes(dice.randrange(1, 300)).decode("latin-1").replace("\0", "?")
            case 1:
                yield good[: dice.randrange(1, len(good) - 1)]
            case 2:
                yield json.dumps(
                    dice.choice([7, None, [], {}, "text", [[1]], {"body": 7}, {"headers": []}])
                )
            case 3:
                yield good.replace('"plain"', f'"no.such.{number}"')
            case 4:
                message = json.loads(good)
                message[dice.choice(["body", "properties", "headers"])] = dice.choice(
                    [7, None, [1], True]
                )
                yield json.dumps(message)
    yield "[" + "0," * 5_000_000


def test_a_job_that_checks_for_a_stop_is_released_for_the_next_worker(live):
    for case in (*ENDS, "deadline"):
        live.end_of(case)
    job = live.app.tasks["patient"].dispatch()
    eventually(lambda: live.noted("patient"))
    live.process.terminate()
    eventually(
        lambda: live.process.poll() is not None,
        lambda: stacks(live.process.pid, live.folder / "log"),
    )
    assert live.process.returncode == 0
    assert live.noted("asked to stop") == [[]]
    queue = live.environ["LIVE_QUEUE"]
    waiting = [
        view for state in (State.PENDING, State.DELAYED) for view in live.driver.peek(queue, state)
    ]
    assert [view.attempts for view in waiting if view.id == job.id] == [0]
