"""The admission of a worker whose tasks need permits: taken, handed over, given back."""

from __future__ import annotations

import itertools
import json
from collections import deque

import pytest

from relevo import clock, config
from relevo.app import create_app
from relevo.drivers import message_codec
from relevo.drivers.contract import NewJob
from relevo.drivers.memory import MemoryDriver
from relevo.errors import DriverError, DriverUnavailableError
from relevo.middleware import RateLimited, Skip, WithoutOverlapping, limit_context
from relevo.transport.lease_keeper import LeaseKeeper
from relevo.worker import permits
from relevo.worker.permits import PermitAdmission
from tests.support.workers import payload_of

numbers = itertools.count(1)


@pytest.fixture(scope="module")
def app():
    app = create_app(
        "permits",
        config.load({"QUEUE_RESULTS": "none"}, env_file=None),
        broker_url="relevo://permits",
    )

    def body(whose=None): ...

    for name, middleware in {
        "alone": [WithoutOverlapping()],
        "pairs": [WithoutOverlapping(at_most=2)],
        "each": [WithoutOverlapping(by="whose")],
        "called": [WithoutOverlapping(by=lambda whose: whose)],
        "second": [Skip(when=lambda _job: False), WithoutOverlapping()],
        "plain": [],
    }.items():
        app.task(name=name, middleware=middleware)(body)
    app.task(name="early", middleware=[WithoutOverlapping()], acks_late=False)(body)
    return app


class Side:
    """A worker's admission, and the jobs it has reserved."""

    def __init__(self, app, driver):
        self.driver, self.admission, self.ahead = driver, PermitAdmission(app, driver), deque()
        self.limits = self.admission._limits

    def reserve(self, *jobs, **headers):
        """Put and reserve jobs (task, arguments); returns their tokens."""
        queue = f"q{next(numbers)}"
        payloads = []
        for at, (name, *args) in enumerate(jobs):
            message = json.loads(payload_of(name, f"{queue}-{at}", args, queue))
            message["headers"] |= headers
            payloads.append(NewJob(queue, json.dumps(message), f"{queue}-{at}"))
        self.driver.put(payloads)
        reserved = self.driver.reserve([queue], len(jobs), 30, "worker")
        self.admission.admit(reserved)
        self.ahead.extend(reserved)
        return [job.lease.token for job in reserved]

    def next(self, idle=False):
        job = self.admission.next(self.ahead, idle)
        return None if job is None else job.lease.token

    def held(self):
        return {view.key: len(view.holders) for view in self.limits.views() if view.holders}


@pytest.fixture
def driver():
    return MemoryDriver()


@pytest.fixture
def side(app, driver):
    return Side(app, driver)


@pytest.fixture
def other(app, driver):
    return Side(app, driver)


def test_permits_are_taken_for_all_reserved_jobs_and_noted_in_their_messages(side):
    one, two = side.reserve(("each", 7), ("each", 8))
    assert side.held() == {"overlap/each/7": 1, "overlap/each/8": 1}
    assert [side.admission.permit_of(token) for token in (one, two)] == [
        "overlap/each/7",
        "overlap/each/8",
    ]
    message = message_codec.from_job(side.ahead[0], side.admission.permit_of(one))
    assert message["properties"][message_codec.PERMIT] == "overlap/each/7"


def test_a_permit_claimed_by_a_foreign_message_is_ignored(side):
    side.reserve(("plain",))
    forged = json.loads(side.ahead[0].payload)
    forged["properties"][message_codec.PERMIT] = "overlap/alone"
    side.driver.put([NewJob("forged", json.dumps(forged), "forged")])
    [job] = side.driver.reserve(["forged"], 1, 30, "worker")
    assert message_codec.PERMIT not in message_codec.from_job(job)["properties"]


@pytest.mark.parametrize(
    "job", [("called", 7), ("second",), ("plain",), ("early",), ("nobody knows",), ("each", 1, 2)]
)
def test_a_job_whose_key_is_unknown_here_asks_itself(side, job):
    [token] = side.reserve(job)
    assert side.next() == token
    assert side.admission.permit_of(token) is None
    assert side.held() == {}


@pytest.mark.parametrize(
    "baton",
    [
        {"verdict": {"type": "x"}},
        {"override": {"middleware": []}},
        {"deadline": clock.now() - 1},
    ],
)
def test_no_permit_is_taken_for_a_job_without_its_tasks_middlewares(side, baton):
    side.reserve(("alone",), relevo=baton)
    assert side.held() == {}


def test_a_job_without_a_permit_waits_while_the_pool_is_busy_and_others_go_ahead(side):
    first, second, plain = side.reserve(("alone",), ("alone",), ("plain",))
    assert [side.next(), side.next(), side.next()] == [first, plain, None]
    side.admission.body_ended(first)
    assert side.next() == second
    assert side.admission.permit_of(second) == "overlap/alone"


def test_when_leases_are_extended_the_broker_learns_who_has_the_permits(side):
    first, second = side.reserve(("alone",), ("alone",))
    side.next()
    side.admission.body_ended(first)
    assert side.next() == second
    keeper = LeaseKeeper(side.driver, 30)
    keeper.admission = side.admission
    assert keeper.renew()
    [view] = side.limits.views()
    assert [holder.job_id.rpartition("-")[2] for holder in view.holders] == ["1"]


def test_a_waiting_job_asks_itself_when_the_pool_has_room(side):
    first, second = side.reserve(("alone",), ("alone",))
    assert [side.next(), side.next(idle=True)] == [first, second]
    assert side.admission.permit_of(second) is None


def test_a_waiting_job_asks_itself_when_no_permit_is_to_be_had_here(side, other):
    other.reserve(("alone",))
    [token] = side.reserve(("alone",))
    assert side.next() is None
    assert side.next(idle=True) == token
    assert side.admission.permit_of(token) is None


def test_a_permit_that_was_given_back_meanwhile_is_taken_before_a_job_asks(side, other):
    [theirs], [token] = other.reserve(("alone",)), side.reserve(("alone",))
    other.admission.body_ended(theirs)
    other.admission.flush()
    assert side.next(idle=True) == token
    assert side.admission.permit_of(token) == "overlap/alone"


def test_permits_are_handed_over_in_one_step_and_held_all_the_time(side, other):
    first, second = side.reserve(("alone",), ("alone",))
    side.next()
    side.admission.body_ended(first)
    side.next()
    assert side.held() == {"overlap/alone": 1}
    assert side.admission.flush()
    assert side.held() == {"overlap/alone": 1}
    [view] = side.limits.views()
    assert view.holders[0].job_id.endswith("-1")
    side.admission.body_ended(second)
    side.admission.flush()
    assert side.held() == {}


def test_where_jobs_wait_no_permit_is_handed_over_and_they_are_called(side, other):
    # Given a job of another worker that stands in line
    first, second, third = side.reserve(("alone",), ("alone",), ("alone",))
    side.next()
    other.reserve(("alone",))
    job = other.ahead[0]
    holder = permits.Holder(job.lease.token, job.id, "alone")
    assert side.limits.take("overlap/alone", 1, holder) > 0
    side.driver.release([job.lease], 100)

    # When the first has ended, and it is written who has its permit
    side.admission.body_ended(first)
    assert side.next() == second
    side.admission.flush()
    side.admission.body_ended(second)

    # I expect the third to ask for itself, and the other to be called
    assert side.next() == third
    assert side.admission.permit_of(third) is None
    side.admission.flush()
    assert side.driver.sizes(job.queue).pending == 1


@pytest.mark.parametrize("step", ["take_free", "hand_over"])
def test_a_lost_answer_leaks_nothing_and_keeps_the_order(side, step, monkeypatch):
    real = getattr(side.limits, step)

    def losing(items):
        real(items)
        monkeypatch.setattr(side.limits, step, real)
        raise DriverUnavailableError("the answer was lost")

    monkeypatch.setattr(side.limits, step, losing)
    first, second = side.reserve(("alone",), ("alone",))
    assert side.next(idle=True) == first
    if step == "take_free":  # it was tried once more, and has it already
        assert side.admission.permit_of(first) == "overlap/alone"
        side.admission.body_ended(first)
        assert side.admission.flush()
    else:
        side.admission.body_ended(first)
        assert side.next() == second
        assert not side.admission.flush()
        side.admission.body_ended(second)
        assert side.admission.flush()
    assert side.held() == {}


def test_a_job_without_a_permit_hands_none_over(side, other):
    first, second, third = side.reserve(("alone",), ("alone",), ("alone",))
    side.next()
    side.admission.body_ended(first)
    side.limits.clear("overlap/alone")
    [theirs] = other.reserve(("alone",))
    side.next()
    side.admission.flush()
    side.admission.body_ended(second)
    assert side.next() is None
    assert side.next(idle=True) == third
    assert side.admission.permit_of(third) is None
    assert other.admission.permit_of(theirs) == "overlap/alone"


def test_handovers_that_the_broker_refuses_end_with_the_leases(side, monkeypatch, caplog):
    [token] = side.reserve(("alone",))
    side.admission.body_ended(token)
    monkeypatch.setattr(
        side.limits, "hand_over", lambda _left: (_ for _ in ()).throw(DriverError("no"))
    )
    assert side.admission.flush()
    assert "end with their leases" in caplog.text
    side.driver.ack([side.ahead[0].lease])
    assert side.held() == {}


def test_a_job_that_ended_unseen_gives_its_permit_back(side):
    [token] = side.reserve(("alone",))
    side.admission.removed(token)
    side.admission.flush()
    assert side.held() == {}


def test_an_app_without_limits_admits_every_job(app):
    assert permits.needed(app)
    bare = create_app(
        "bare", config.load({"QUEUE_RESULTS": "none"}, env_file=None), limits={"a": "1/hour"}
    )

    def body(): ...

    bare.task(name="limited", middleware=[RateLimited("a"), WithoutOverlapping()])(body)
    assert not permits.needed(bare)


def test_the_child_that_runs_a_job_under_a_noted_permit_asks_nothing(app, monkeypatch):
    monkeypatch.setattr(limit_context, "context_of", lambda _job: pytest.fail("it was asked for"))
    job = type("Job", (), {"permit": "overlap/alone", "task": "alone"})()
    assert WithoutOverlapping().handle(job, lambda: "done") == "done"
