"""Running jobs: one with its assertions, and all in the order in which a worker would run them."""

from __future__ import annotations

import pytest
from celery import chord
from celery.exceptions import Ignore, Reject

from relevo.errors import DeadlineError, FakeError, JobFailedError, OptionError
from relevo.testing import fake
from tests.support.unreachable_app import make_app
from tests.support.waits import LONG


@pytest.fixture
def task(app):
    """A decorator for a bound task of the app, with options."""
    return lambda name="work", **options: app.task(name=name, bind=True, shared=False, **options)


@pytest.fixture
def ran():
    return []


@pytest.fixture
def note(task, ran):
    @task("note")
    def note(self, text):
        ran.append(text)

    return note


@pytest.fixture
def work(task, send):
    @task(tries=3, backoff=[10, 20])
    def work(self, how, wait=0):
        """End in the given way."""
        match how:
            case "release":
                self.release(wait)
            case "fail":
                self.fail("no such user")
            case "raise":
                raise ValueError("broken pipe")
            case "ignore":
                raise Ignore("not now")
            case "report":
                self.progress(1, 2)
                self.progress(2, 2)
                send.delay("ada")
        return "done"

    return work


# --- one job --------------------------------------------------------------------------------------
HOLDS = [
    ("return", lambda job: job.assert_completed()),
    ("return", lambda job: job.assert_completed("done")),
    ("return", lambda job: job.assert_not_failed()),
    ("return", lambda job: job.assert_not_released()),
    ("return", lambda job: job.assert_not_retried()),
    ("return", lambda job: job.assert_progress()),
    ("release", lambda job: job.assert_released()),
    ("release", lambda job: job.assert_released(0)),
    ("release", lambda job: job.assert_not_completed()),
    ("fail", lambda job: job.assert_failed()),
    ("fail", lambda job: job.assert_failed(with_=JobFailedError)),
    ("fail", lambda job: job.assert_failed(with_="no such user")),
    ("fail", lambda job: job.assert_failed(with_=JobFailedError("no such user"))),
    ("fail", lambda job: job.assert_not_retried()),
    ("raise", lambda job: job.assert_retried()),
    ("raise", lambda job: job.assert_retried(10)),
    ("raise", lambda job: job.assert_retried(delay=10, with_=ValueError)),
    ("raise", lambda job: job.assert_not_failed()),
    ("report", lambda job: job.assert_progress((1, 2), (2, 2))),
    ("report", lambda job: job.assert_dispatched("shop.mail", times=1)),
    ("ignore", lambda job: job.assert_not_completed()),
]


@pytest.mark.parametrize(("how", "holds"), HOLDS)
def test_a_job_is_run_and_its_attempt_asserted(queue, work, how, holds):
    holds(queue.run(work, how))


FAILS = [
    (
        "raise",
        lambda job: job.assert_completed(),
        "to complete; it is to be retried after 10 s, because of ValueError('broken pipe')",
    ),
    (
        "return",
        lambda job: job.assert_completed("gone"),
        "to complete with 'gone'; it completed with 'done'",
    ),
    ("return", lambda job: job.assert_not_completed(), "to not complete; it completed with 'done'"),
    ("return", lambda job: job.assert_released(), "to be released; it completed with 'done'"),
    (
        "release",
        lambda job: job.assert_released(5),
        "to be released for 5 s; it was released for 0 s",
    ),
    (
        "release",
        lambda job: job.assert_not_released(),
        "to not be released; it was released for 0 s",
    ),
    ("return", lambda job: job.assert_failed(), "to fail; it completed"),
    (
        "fail",
        lambda job: job.assert_failed(with_=ValueError),
        "to fail with ValueError; it failed with JobFailedError('no such user')",
    ),
    ("fail", lambda job: job.assert_failed(with_="no user"), "to fail with 'no user'"),
    (
        "fail",
        lambda job: job.assert_failed(with_=JobFailedError("no")),
        "to fail with JobFailedError('no')",
    ),
    ("fail", lambda job: job.assert_not_failed(), "to not fail; it failed"),
    ("raise", lambda job: job.assert_failed(), "to fail; it is to be retried"),
    ("return", lambda job: job.assert_retried(), "to be retried; it completed"),
    (
        "raise",
        lambda job: job.assert_retried(11),
        "to be retried for 11 s; it is to be retried after 10 s",
    ),
    ("raise", lambda job: job.assert_retried(with_=KeyError), "to be retried with KeyError"),
    ("raise", lambda job: job.assert_not_retried(), "to not be retried"),
    (
        "report",
        lambda job: job.assert_progress((2, 2)),
        "to report progress [(2, 2)], got [(1, 2), (2, 2)]",
    ),
    (
        "report",
        lambda job: job.assert_dispatched("shop.resize"),
        "to dispatch 'shop.resize', it dispatched shop.mail('ada') on 'default'",
    ),
    ("ignore", lambda job: job.assert_completed(), "to complete; it ended as IGNORED"),
]


@pytest.mark.parametrize(("how", "fails", "message"), FAILS)
def test_a_failed_assertion_says_what_the_job_did(queue, work, how, fails, message):
    job = queue.run(work, how)
    with pytest.raises(AssertionError) as said:
        fails(job)
    assert str(said.value).startswith(f"expected attempt 1 of work('{how}') to ")
    assert message in str(said.value)


def test_the_error_of_the_job_is_the_cause_of_the_failed_assertion(queue, work):
    with pytest.raises(AssertionError) as said:
        queue.run(work, "raise").assert_completed()
    assert isinstance(said.value.__cause__, ValueError)


def test_a_later_attempt_can_be_run_with_the_options_of_a_dispatch(queue, work):
    queue.job(work, ("raise",), attempt=2).assert_retried(20)
    queue.job(work, ("raise",), attempt=3).assert_failed(with_=ValueError)
    queue.job(work, ("raise",), tries=1).assert_failed()
    queue.job(work, ["release"], {"wait": 30}).assert_released(30)


def test_a_job_that_is_run_was_not_dispatched_and_is_not_pending(queue, work):
    queue.run(work, "raise")
    queue.assert_nothing_dispatched()
    queue.assert_nothing_pending()


def test_the_failed_hook_runs_once_the_job_has_failed(queue, work, ran):
    work.failed(lambda job, error: ran.append((job.attempt, str(error))))
    queue.run(work, "raise")
    queue.job(work, ("raise",), attempt=3)
    assert ran == [(3, "broken pipe")]


def test_the_error_of_a_job_is_on_its_attempt(queue, work):
    assert str(queue.run(work, "fail").error) == "no such user"
    assert queue.run(work, "return").result == "done"


def test_a_plain_celery_task_can_use_its_own_retry(queue, task):
    @task(max_retries=1, default_retry_delay=7)
    def plain(self):
        raise self.retry(exc=KeyError("x"))

    queue.run(plain).assert_retried(7, with_=KeyError)
    queue.job(plain, attempt=2).assert_failed(with_=KeyError)


# --- drain ----------------------------------------------------------------------------------------
def test_drain_takes_the_queues_in_strict_order_then_priority_then_time(queue, note, ran):
    note.on_queue("low").dispatch("low")
    note.dispatch("default")
    note.apply_async(("urgent",), priority=0)
    note.apply_async(("idle",), priority=9)
    note.on_queue("high").dispatch("high")
    note.dispatch("default again")
    assert len(queue.drain()) == 6
    assert ran == ["high", "default", "urgent", "default again", "idle", "low"]


def test_drain_takes_the_given_queues_in_their_order(queue, note, ran):
    for name in ("high", "default", "low"):
        note.on_queue(name).dispatch(name)
    queue.drain("default")
    queue.drain(["low", "high"])
    assert ran == ["default", "low", "high"]


def test_drain_stops_at_its_limit(queue, note, ran):
    for number in range(5):
        note.delay(number)
    queue.drain(limit=2)
    assert ran == [0, 1]
    assert [record.args for record in queue.pending()] == [(2,), (3,), (4,)]
    with pytest.raises(
        AssertionError, match=r"expected no job to be pending\npending:\n  note\(2\) on 'default'"
    ):
        queue.assert_nothing_pending()
    queue.assert_nothing_pending("low")
    with pytest.raises(AssertionError, match="pending on 'default'"):
        queue.assert_nothing_pending("default")


def test_drain_runs_what_its_jobs_dispatch(queue, work, send):
    work.delay("report")
    assert [attempt.job.task for attempt in queue.drain()] == ["work", "shop.mail"]
    queue.assert_dispatched_once(send)
    queue.assert_nothing_pending()


def test_delayed_jobs_wait_until_the_clock_is_moved(queue, note, ran):
    note.delay_for(60).dispatch("later")
    note.dispatch("now")
    queue.drain()
    queue.travel(59)
    queue.drain()
    assert ran == ["now"]
    queue.travel(1)
    queue.drain()
    assert ran == ["now", "later"]


def test_delayed_jobs_run_on_request_the_earliest_first(queue, note, ran):
    note.on_queue("high").delay_for(60).dispatch("in a minute")
    note.delay_for(30).dispatch("in half a minute")
    note.on_queue("low").dispatch("now")
    queue.drain(including_delayed=True)
    assert ran == ["now", "in half a minute", "in a minute"]


def test_retries_follow_their_backoff_and_count(queue, work):
    work.delay("raise")
    queue.drain()[0].assert_retried(10)
    assert queue.drain() == []
    queue.travel(10)
    queue.drain()[0].assert_retried(20)
    queue.travel(20)
    queue.drain()[0].assert_failed(with_=ValueError)
    queue.travel(1000)
    assert queue.drain() == []
    queue.assert_count(1)
    assert [attempt.job.attempt for attempt in queue.attempts(work)] == [1, 2, 3]


def test_a_retry_at_once_is_behind_the_others_and_in_the_same_drain(queue, task, note, ran):
    @task("hasty", tries=3, backoff=0)
    def hasty(self):
        ran.append(self.attempt)
        raise ValueError

    hasty.delay()
    note.delay("other")
    queue.drain()
    assert ran == [1, "other", 2, 3]


def test_a_release_does_not_count_as_an_attempt(queue, work):
    work.delay("release", wait=5)
    for _ in range(5):
        queue.drain()[0].assert_released(5)
        queue.travel(5)
    assert [attempt.job.attempt for attempt in queue.attempts()] == [1] * 5


def test_a_job_that_is_released_for_ever_does_not_hang_the_test(queue, work):
    work.delay("release")
    with pytest.raises(FakeError, match="'work' was released 100 times in one drain"):
        queue.drain()


def test_a_deadline_passes_when_the_clock_is_moved(queue, task):
    @task("late", retry_until=60)
    def late(self): ...

    late.delay()
    queue.travel(61)
    queue.drain()[0].assert_failed(with_=DeadlineError)


def test_a_job_that_has_expired_does_not_run(queue, note, ran):
    note.apply_async(("x",), expires=30)
    queue.travel(31)
    assert [attempt.state for attempt in queue.drain()] == ["REVOKED"]
    assert ran == []


def test_a_task_that_acks_early_sends_its_retry_again_and_is_still_one_job(app, queue, task):
    @task("early", acks_late=False, tries=2, backoff=5)
    def early(self):
        raise ValueError

    early.delay()
    queue.drain()[0].assert_retried(5)
    queue.travel(5)
    queue.drain()[0].assert_failed()
    queue.assert_count(1)


def test_a_rejected_job_comes_back_if_it_asks_for_that(queue, task, ran):
    @task("picky")
    def picky(self, requeue):
        ran.append(requeue)
        if len(ran) < 3:
            raise Reject("no", requeue=requeue)

    picky.delay(True)
    queue.drain()
    assert ran == [True, True, True]
    ran.clear()
    picky.delay(False)
    assert [attempt.state for attempt in queue.drain()] == ["REJECTED"]


def test_a_whole_canvas_is_drained_and_its_result_is_there(queue, add, total):
    result = chord([add.s(1, 2), add.s(3, 4)], total.s()).apply_async()
    other = (add.s(1, 1) | add.s(10)).apply_async()
    queue.drain()
    assert (result.get(timeout=LONG), other.get(timeout=LONG)) == (10, 12)
    queue.assert_nothing_failed()


def test_arguments_arrive_as_they_would_in_a_worker(queue, note, ran):
    note.delay((1, 2))
    queue.drain()
    assert ran == [[1, 2]]


def test_failed_jobs_are_listed(queue, work):
    work.delay("fail")
    queue.drain()
    with pytest.raises(
        AssertionError,
        match=r"no job to fail\nfailed:\n  work\('fail'\) on 'default': failed with ",
    ):
        queue.assert_nothing_failed()


def test_the_clock_moves_only_forward(queue):
    with pytest.raises(OptionError, match="expected a number of seconds from 0, got -1"):
        queue.travel(-1)


def test_an_app_without_results_stays_without():
    app = make_app(result_backend=None)

    @app.task(name="add", shared=False)
    def add(x, y):
        return x + y

    with fake(app=app) as queue:
        add.delay(1, 2)
        queue.drain()[0].assert_completed(3)
        with pytest.raises(NotImplementedError):
            chord([add.s(1, 2)] * 2, add.s()).apply_async()
