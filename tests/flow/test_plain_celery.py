"""Plain Celery on our drivers, with real workers: everything that its users know works.

No task here has an option of ours. All tests run on SQLite; those marked `everywhere` also on
PostgreSQL.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError, TimeLimitExceeded
from celery.platforms import EX_UNAVAILABLE

from relevo.drivers.contract import NewJob, State
from relevo.store import failed
from relevo.store.store import store_for
from tests.support.celery_project import Project, stop
from tests.support.waits import LONG, eventually

if TYPE_CHECKING:
    from celery.result import AsyncResult

everywhere = pytest.mark.parametrize("shop", ["sqlite", "postgresql"], indirect=True)
MAIN = "main@here"
HOUR = timedelta(hours=1)


def value(result: AsyncResult) -> Any:
    """The value of a job; its error is raised."""
    return result.get(timeout=LONG, interval=0.02)


def end(result: AsyncResult) -> str:
    """The state a job ends in."""
    result.get(timeout=LONG, interval=0.02, propagate=False)
    state: str = result.state
    return state


@pytest.fixture
def tasks(shop: Project) -> SimpleNamespace:
    """The project's tasks by name; a dot becomes an underscore."""
    named = {
        name.replace(".", "_"): task
        for name, task in shop.tasks.items()
        if not name.startswith("celery.")
    }
    return SimpleNamespace(**named)


# --- handing in -----------------------------------------------------------------------------------
@everywhere
def test_delay_and_get_work(tasks):
    assert value(tasks.add.delay(1, 2)) == 3


@everywhere
def test_an_error_comes_back_as_it_was_raised(tasks):
    with pytest.raises(ValueError, match="no sale"):
        value(tasks.fail.delay("no sale"))


@everywhere
def test_countdown_and_eta_wait_in_the_broker_and_not_in_a_worker(shop, tasks):
    """`inspect scheduled` is empty: another worker, or this one after a restart, finds them."""
    later = [
        tasks.add.apply_async((1, 1), countdown=600),
        tasks.add.apply_async((1, 1), eta=datetime.now(UTC) + HOUR),
    ]
    due = [tasks.add.apply_async((1, n), countdown=0.1) for n in range(3)]
    due.append(tasks.add.apply_async((1, 3), eta=datetime.now(UTC) - HOUR))
    assert [value(result) for result in due] == [1, 2, 3, 4]
    assert {view.id for view in shop.driver.peek("default", State.DELAYED)} == {
        result.id for result in later
    }
    assert shop.app.control.inspect([MAIN]).scheduled() == {MAIN: []}
    assert shop.driver.delete(result.id for result in later) == 2


@everywhere
def test_a_job_that_has_expired_is_not_run(shop, tasks):
    expired = tasks.note.apply_async(("expired",), expires=-1)
    assert end(expired) == "REVOKED"
    assert value(tasks.add.apply_async((1, 1), expires=600)) == 2
    assert "expired" not in shop.journal()


def test_a_job_goes_to_the_queue_it_is_sent_to(tasks):
    first, second = (tasks.pid.apply_async(queue=queue) for queue in ("default", "solo"))
    assert value(first) != value(second)


@everywhere
def test_queues_run_in_the_order_of_q_and_by_priority_within(shop, tasks):
    """Jobs that are put before the worker starts run in the order of the queues and priorities."""
    for queue in ("low", "high", "critical"):
        for priority in (9, 5, 0):
            tasks.note.apply_async((queue, priority), queue=queue, priority=priority)
    with shop.worker("ordered", "-c", "1", "-Q", "critical,high,low"):
        shop.wait_noted("low 9")
    ran = [line for line in shop.journal() if line.split()[0] in {"critical", "high", "low"}]
    assert ran == [
        f"{queue} {priority}" for queue in ("critical", "high", "low") for priority in (0, 5, 9)
    ]


def test_a_task_that_acks_early_is_acked_before_it_runs(shop, tasks):
    assert value(tasks.early.delay("early")) == "early"
    assert shop.journal().count("early") == 1


def test_ignore_result_keeps_no_result(shop, tasks):
    result = tasks.silent.delay("silent")
    shop.wait_noted("silent")
    assert value(tasks.add.delay(1, 1)) == 2
    assert result.state == "PENDING"


# --- again ----------------------------------------------------------------------------------------
@everywhere
def test_retry_works(tasks):
    assert value(tasks.retried.delay(2)) == 2


def test_retries_end_at_their_limit(tasks):
    result = tasks.retried.delay(9)
    assert end(result) == "FAILURE"
    assert type(result.result).__name__ == "MaxRetriesExceededError"


def test_autoretry_for_works(tasks):
    assert value(tasks.autoretried.delay(2)) == 2
    assert end(tasks.autoretried.delay(9)) == "FAILURE"


# --- canvas ---------------------------------------------------------------------------------------
@everywhere
def test_a_chain_works(tasks):
    assert value(chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.add.s(4))()) == 10


@everywhere
def test_a_group_works(tasks):
    assert value(group(tasks.add.s(n, n) for n in range(10))()) == [2 * n for n in range(10)]


@everywhere
def test_a_chord_works(tasks):
    assert value(chord((tasks.add.s(n, n) for n in range(10)), tasks.total.s())()) == 90


def test_a_chord_with_a_failing_member_calls_its_error_callback(shop, tasks):
    result = chord(
        [tasks.add.s(1, 1), tasks.fail.s("broken")], tasks.total.s().on_error(tasks.errback.s())
    )()
    assert end(result) == "FAILURE"
    assert isinstance(result.result, ChordError)
    shop.wait_noted(f"errback {result.id}")


@everywhere
def test_a_nested_canvas_works(tasks):
    inner = chain(
        tasks.add.s(1, 1), group(tasks.add.s(1), tasks.add.s(2)), tasks.total.s(), tasks.add.s(10)
    )
    assert value(inner()) == 17
    sums = chord(
        [chord([tasks.add.s(n, 1), tasks.add.s(n, 2)], tasks.total.s()) for n in range(3)],
        tasks.total.s(),
    )
    assert value(sums()) == 15
    assert value(group(chain(tasks.add.s(n, 1), tasks.add.s(1)) for n in range(3))()) == [2, 3, 4]


def test_link_and_link_error_work(shop, tasks):
    value(tasks.add.apply_async((1, 2), link=tasks.note.s("linked")))
    shop.wait_noted("3 linked")
    failed = tasks.fail.apply_async(link_error=tasks.errback.s())
    shop.wait_noted(f"errback {failed.id}")


# --- looking --------------------------------------------------------------------------------------
ANSWERS = {
    "ping": "pong",
    "active": "- empty -",
    "reserved": "- empty -",
    "scheduled": "- empty -",
    "registered": "* retried",
    "stats": '"max-concurrency": 2',
    "active_queues": "'name': 'default'",
    "revoked": "- empty -",
    "conf": "worker_pool_restarts",
    "report": "platform",
    "clock": "clock",
}


@pytest.mark.parametrize("question", ANSWERS)
def test_inspect_works(shop, question):
    said = shop.celery("inspect", question, "-d", "threads@here")
    assert ANSWERS[question] in said
    assert said.endswith("\n1 node online.\n")


@everywhere
def test_inspect_works_from_another_process_while_a_job_runs(shop, tasks):
    waiting = tasks.wait.delay()
    shop.wait_noted(f"started {waiting.id}")
    active = shop.run("inspect", "active", "-d", MAIN)
    shop.let_go(waiting)
    assert value(waiting) == "waited"
    assert waiting.id in active


@everywhere
def test_events_of_a_job_arrive(shop, tasks):
    """With `worker -E`. The worker may notice the listener a second late, so a job is sent at every
    heartbeat.
    """
    seen: dict[str, list[str]] = {}
    life = ["task-received", "task-started", "task-succeeded"]
    deadline = time.monotonic() + LONG

    def see(event):
        if event["type"] == "worker-heartbeat":
            tasks.add.delay(1, 1)
        seen.setdefault(event.get("uuid"), []).append(event["type"])
        receiver.should_stop = life in seen.values() or time.monotonic() > deadline

    with shop.app.connection_for_read() as connection:
        receiver = shop.app.events.Receiver(connection, handlers={"*": see})
        receiver.capture(timeout=LONG)
    assert life in seen.values()


# --- steering -------------------------------------------------------------------------------------
def test_control_sets_a_rate_limit(shop, tasks):
    assert "new rate limit set" in shop.celery("control", "-d", MAIN, "rate_limit", "add", "20/s")
    assert [value(result) for result in [tasks.add.delay(n, 0) for n in range(5)]] == list(range(5))
    assert "add [rate_limit=20/s]" in shop.celery("inspect", "registered", "-d", MAIN, "rate_limit")
    shop.celery("control", "-d", MAIN, "rate_limit", "add", "0")


def test_control_sets_a_time_limit(shop, tasks):
    """In stock Celery it says that it is set, and no job ever feels it."""
    assert "time limits set" in shop.celery("control", "-d", MAIN, "time_limit", "wait", "0", "0.5")
    with pytest.raises(TimeLimitExceeded):
        value(tasks.wait.delay())
    assert "time limits set" in shop.celery("control", "-d", MAIN, "time_limit", "wait", "0", "0")


@everywhere
def test_consumers_can_be_added_and_cancelled_and_queues_purged(shop, tasks):
    waiting = tasks.add.apply_async((1, 1), queue="idle")
    assert "add consumer idle" in shop.celery("control", "-d", MAIN, "add_consumer", "idle")
    assert value(waiting) == 2
    assert "no longer consuming from idle" in shop.celery(
        "control", "-d", MAIN, "cancel_consumer", "idle"
    )
    left = [
        tasks.add.apply_async((1, 1), queue="idle"),
        tasks.add.apply_async((1, 1), queue="idle", countdown=600),
    ]
    assert value(tasks.add.delay(1, 1)) == 2
    sizes = shop.driver.sizes("idle")
    assert (sizes.pending, sizes.delayed) == (1, 1)
    assert "Purged 2 messages" in shop.run("purge", "-f", "-Q", "idle")
    assert [result.state for result in left] == ["PENDING", "PENDING"]
    assert "idle" not in shop.driver.queues()


def test_control_enables_and_disables_events(shop):
    assert "task events enabled" in shop.celery("control", "-d", "solo@here", "enable_events")
    assert "task events disabled" in shop.celery("control", "-d", "solo@here", "disable_events")


def test_a_worker_renews_its_processes_and_ends_when_it_is_told_to(shop, tasks):
    with shop.worker("leaving", "-c", "2", "-Q", "low") as process:
        before = children(shop)
        assert "reload started" in shop.celery("control", "-d", "leaving@here", "pool_restart")
        eventually(lambda: len(now := children(shop)) == 2 and now.isdisjoint(before))
        assert value(tasks.pid.apply_async(queue="low")) in children(shop)
        shop.celery(
            "control", "-d", "leaving@here", "shutdown", ends=EX_UNAVAILABLE
        )  # it sends no reply
        assert process.wait(LONG) == 0


def children(shop: Project) -> set[int]:
    stats = shop.app.control.inspect(["leaving@here"]).stats() or {}
    return set(stats["leaving@here"]["pool"]["processes"]) if stats else set()


@everywhere
def test_a_job_whose_time_has_not_come_runs_when_it_is_hastened(shop, tasks):
    """Celery's worker would hold it for the hour that its message still names."""
    later = tasks.add.apply_async((1, 2), countdown=3600)
    assert shop.driver.hasten([later.id]) == 1
    assert value(later) == 3


@everywhere
def test_a_revoked_job_does_not_run(shop, tasks):
    assert eventually(lambda: shop.app.control.revoke("unwanted", destination=[MAIN], reply=True))
    revoked = tasks.note.apply_async(("revoked",), task_id="unwanted")
    with pytest.raises(TaskRevokedError):
        value(revoked)
    assert "revoked" not in shop.journal()


@everywhere
def test_revoke_with_terminate_kills_a_running_job(shop, tasks):
    running = tasks.wait.delay()
    shop.wait_noted(f"started {running.id}")
    running.revoke(terminate=True)
    assert end(running) == "REVOKED"
    assert value(tasks.add.delay(1, 1)) == 2
    assert f"ended {running.id}" not in shop.journal()


# --- limits and pools -----------------------------------------------------------------------------
def test_time_limits_end_a_job(tasks):
    hard, soft = tasks.slow.delay(), tasks.slow_soft.delay()
    assert value(soft) == "was told"
    with pytest.raises(TimeLimitExceeded):
        value(hard)


def test_max_tasks_per_child_works(tasks):
    pids = [value(tasks.pid.apply_async(queue="once")) for _ in range(3)]
    assert len(set(pids)) == 3


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_the_other_pools_run_jobs(shop, tasks, pool):
    def sent(signature):
        return signature.set(queue=pool)

    group_ = group(sent(tasks.add.s(n, n)) for n in range(10))()
    assert value(group_) == [2 * n for n in range(10)]
    assert value(chain(sent(tasks.add.s(1, 2)), sent(tasks.add.s(3)))()) == 6
    assert value(tasks.retried.apply_async((2,), queue=pool)) == 2
    assert value(tasks.add.apply_async((1, 1), queue=pool, countdown=0.1)) == 2
    assert end(tasks.fail.apply_async(queue=pool)) == "FAILURE"
    assert shop.app.control.inspect([f"{pool}@here"]).ping() == {f"{pool}@here": {"ok": "pong"}}


# --- beat -----------------------------------------------------------------------------------------
@everywhere
def test_beat_runs_its_entries(shop):
    beat = shop.start("beat", "-s", str(shop.folder / "schedule"), "-l", "INFO", name="beat")
    try:
        shop.wait_noted("tick", times=2)
    finally:
        stop(beat)
    assert beat.returncode == 0


# --- messages that can not be used ----------------------------------------------------------------
@everywhere
def test_a_worker_goes_on_after_messages_that_it_cannot_use(shop, tasks):
    shop.driver.put(
        [
            NewJob(queue="default", payload=payload, id=f"bad-{n}")
            for n, payload in enumerate(
                ["{not json", "[]", "{}", '{"body": "", "properties": {}}', "null", '"text"']
            )
        ]
    )
    unknown, pickled = (
        shop.app.send_task("no.such.task"),
        shop.app.send_task("add", (1, 1), serializer="pickle"),
    )
    assert value(tasks.add.delay(1, 1)) == 2
    assert value(tasks.add.delay(1, 2)) == 3
    assert end(unknown) == "FAILURE"
    bad = {*(f"bad-{n}" for n in range(6)), unknown.id, pickled.id}
    store = store_for(shop.app.settings.database_url)
    eventually(lambda: bad <= {job.uuid for job in failed.page(store, limit=1000)})
    eventually(lambda: not {"default", "rejected"} & set(shop.driver.queues()))
