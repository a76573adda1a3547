"""Attempts through a broker and a worker: all state between two attempts is in the message."""

from contextlib import contextmanager

import pytest
from celery import chain, group
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Reject

from relevo.errors import DeadlineError
from relevo.task import Task
from tests.support.memory_app import make_app
from tests.support.waits import LONG


@pytest.fixture(scope="module")
def app():
    return make_app()


@pytest.fixture(scope="module")
def worker(app):
    """One worker in a thread for all tests here. Entering it makes the test's tasks known to it."""

    @contextmanager
    def entered():
        worker.consumer.update_strategies()
        yield worker

    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=LONG) as worker:
        yield entered


def ends(result):
    """Wait until a job has ended; its state."""
    result.get(timeout=LONG, propagate=False, interval=0.01)
    return result.state


def test_a_job_is_tried_again_until_it_succeeds(app, worker):
    attempts = []

    @app.task(bind=True, tries=3)
    def process(self, number):
        attempts.append((self.attempt, self.request.id))
        if self.attempt < 3:
            raise ValueError(number)
        return number * 2

    with worker():
        result = process.dispatch(21)
        assert result.get(timeout=LONG, interval=0.01) == 42
    assert attempts == [(1, result.id), (2, result.id), (3, result.id)]


def test_after_the_last_try_the_hook_runs_and_celery_records_the_original_error(app, worker):
    failures = []

    @app.task(tries=2, tags=lambda number: [f"n:{number}"])
    def process(number):
        raise ValueError(number)

    @process.failed
    def process_failed(job, error):
        failures.append((job, error))

    with worker():
        result = process.delay(7)
        assert ends(result) == "FAILURE"
    assert isinstance(result.result, ValueError)
    [(job, error)] = failures
    assert (job.id, job.attempt, job.args, job.tags, str(error)) == (
        result.id,
        2,
        (7,),
        ("n:7",),
        "7",
    )
    assert job.queue == app.conf.task_default_queue


def test_a_release_burns_no_attempt_and_no_exception(app, worker):
    attempts = []

    @app.task(bind=True, tries=2, max_exceptions=2)
    def process(self):
        attempts.append(self.attempt)
        if len(attempts) <= 3:
            self.release()
        if len(attempts) == 4:
            raise ValueError
        return "done"

    with worker():
        assert process.dispatch().get(timeout=LONG, interval=0.01) == "done"
    assert attempts == [1, 1, 1, 1, 2]


def test_a_plain_task_may_release_and_fail_too(app, worker):
    runs = []

    @app.task(bind=True)
    def process(self):
        runs.append(self.request.retries)
        if len(runs) <= 5:  # more often than Celery's max_retries
            self.release()
        self.fail("enough")

    with worker():
        result = process.delay()
        assert ends(result) == "FAILURE"
    assert (str(result.result), runs) == ("enough", [0] * 6)


def test_options_of_one_dispatch_last_for_all_attempts(app, worker):
    attempts = []

    @app.task(bind=True, tries=1)
    def process(self):
        attempts.append((self.attempt, self.request.timelimit))
        raise ValueError

    with worker():
        ends(process.with_options(tries=3, timeout=77).dispatch())
    assert attempts == [(1, [77, None]), (2, [77, None]), (3, [77, None])]


def test_the_deadline_is_kept_over_the_attempts_and_over_a_retry_of_celerys(app, worker):
    deadlines = []

    @app.task(bind=True, retry_until=600, max_exceptions=2)
    def process(self):
        deadlines.append(self.request.headers["relevo"]["deadline"])
        if len(deadlines) == 1:
            self.retry()
        raise ValueError

    with worker():
        ends(process.dispatch())
    assert len(deadlines) == 3
    assert len(set(deadlines)) == 1


def test_a_job_that_comes_too_late_fails_and_says_so(app, worker):
    failures, ran = [], []

    @app.task(retry_until=600)
    def process():
        ran.append(True)

    process.failed(lambda job, error: failures.append((job.deadline, error)))
    with worker():
        result = process.apply_async(headers={"relevo": {"deadline": 5.0}})
        assert ends(result) == "FAILURE"
    assert isinstance(result.result, DeadlineError)
    assert failures[0][0] == 5.0
    assert not ran


def test_a_job_sent_by_its_name_alone_gets_its_deadline_at_the_first_attempt(app, worker):
    deadlines = []

    @app.task(name="process", bind=True, retry_until=600, max_exceptions=3)
    def process(self):
        deadlines.append((self.request.headers or {}).get("relevo", {}).get("deadline"))
        raise ValueError

    with worker():
        ends(app.send_task("process"))
    assert deadlines[0] is None
    assert deadlines[1] == deadlines[2] > 600


def test_a_job_that_was_stopped_after_its_last_try_runs_its_hook_and_not_its_body(app, worker):
    """The main process leaves this in the message when it kills a job for good."""
    ran, failures = [], []

    @app.task(tries=1)
    def process():
        ran.append(True)

    process.failed(lambda job, error: failures.append((job.id, error)))
    verdict = {
        "exc_type": "TimeLimitExceeded",
        "exc_message": [30],
        "exc_module": "billiard.exceptions",
    }
    with worker():
        result = process.apply_async(headers={"relevo": {"verdict": verdict}})
        assert ends(result) == "FAILURE"
    assert type(result.result).__name__ == "TimeLimitExceeded"
    assert [(job, type(error).__name__) for job, error in failures] == [
        (result.id, "TimeLimitExceeded")
    ]
    assert not ran


def test_an_error_of_an_unknown_class_is_told_by_its_text(app, worker):
    failures = []

    @app.task(tries=1)
    def process(): ...

    process.failed(lambda _job, error: failures.append(str(error)))
    with worker():
        ends(process.apply_async(headers={"relevo": {"verdict": {"no": "error"}}}))
    assert "no" in failures[0]


def test_a_broker_that_will_not_take_a_retry_keeps_the_job(app, monkeypatch):
    """Celery's own retry drops it; ours asks for it to be delivered again."""

    @app.task(tries=3)
    def process():
        raise ValueError

    def refuse(*_args, **_options):
        raise ConnectionError("gone")

    monkeypatch.setattr(type(app.tasks[process.name]), "apply_async", refuse)
    process.push_request(id="1", called_directly=False, args=(), kwargs={}, delivery_info={})
    with pytest.raises(Reject) as refused:
        process.run()
    process.pop_request()
    assert refused.value.requeue


def test_progress_is_written_to_the_result_backend(app, worker):
    seen = []

    @app.task(bind=True)
    def process(self):
        self.progress(1, 3)
        result = app.AsyncResult(self.request.id)
        seen.append((result.state, result.info))

    with worker():
        process.dispatch().get(timeout=LONG, interval=0.01)
    assert seen == [("PROGRESS", {"done": 1, "total": 3})]


def test_progress_never_fails_a_job(app, worker, monkeypatch):
    @app.task(bind=True)
    def process(self):
        monkeypatch.setattr(self, "update_state", lambda **_: 1 / 0)
        self.progress(1, 3)
        return "done"

    with worker():
        assert process.dispatch().get(timeout=LONG, interval=0.01) == "done"


class TestPlainCelery:
    """A task without our options behaves as Celery's, on our Task class and on Celery's own."""

    def test_a_plain_task_is_no_attempt_of_ours_and_the_tracer_keeps_its_fast_path(self, app):
        @app.task
        def plain(number):
            return number

        assert plain.run.__module__ == __name__
        assert not plain.is_wrapped
        assert (
            vars(Task).keys().isdisjoint({"__call__", "before_start", "on_success", "after_return"})
        )

    def test_an_error_without_retries_ends_the_job(self, app, worker):
        runs = []

        @app.task
        def plain():
            runs.append(True)
            raise ValueError

        with worker():
            assert ends(plain.delay()) == "FAILURE"
        assert len(runs) == 1

    def test_celerys_retry_ends_at_max_retries(self, app, worker):
        runs = []

        @app.task(bind=True, max_retries=2, default_retry_delay=0)
        def plain(self):
            runs.append(self.request.retries)
            raise self.retry(exc=ValueError("still"))

        with worker():
            result = plain.delay()
            assert ends(result) == "FAILURE"
        assert (runs, str(result.result)) == ([0, 1, 2], "still")

    def test_celerys_autoretry_for_works(self, app, worker):
        runs = []

        @app.task(autoretry_for=(ValueError,), max_retries=2, default_retry_delay=0)
        def plain():
            runs.append(True)
            raise ValueError

        with worker():
            assert ends(plain.delay()) == "FAILURE"
        assert len(runs) == 3

    def test_celerys_autoretry_for_works_with_our_failed_hook(self, app, worker):
        runs, failures = [], []

        @app.task(autoretry_for=(ValueError,), max_retries=2, default_retry_delay=0)
        def plain():
            runs.append(True)
            raise ValueError

        plain.failed(lambda job, _error: failures.append(job.attempt))
        with worker():
            assert ends(plain.delay()) == "FAILURE"
        assert (len(runs), failures) == (3, [3])

    def test_an_expired_job_does_not_run(self, app, worker):
        @app.task
        def plain(): ...

        with worker():
            assert ends(plain.apply_async(expires=-1)) == "REVOKED"

    def test_celerys_limits_and_rates_are_left_alone(self, app):
        @app.task(time_limit=9, soft_time_limit=8, rate_limit="5/m", ignore_result=True)
        def plain(): ...

        assert (plain.time_limit, plain.soft_time_limit, plain.rate_limit) == (9, 8, "5/m")
        assert plain.max_retries == 3

    def test_a_chain_goes_on_after_a_retry(self, app, worker):
        @app.task(bind=True, tries=2)
        def add(self, x, y):
            if self.attempt == 1:
                raise ValueError
            return x + y

        with worker():
            assert chain(add.s(1, 2), add.s(3))().get(timeout=LONG, interval=0.01) == 6

    def test_a_group_has_all_its_results(self, app, worker):
        @app.task(bind=True, tries=2)
        def double(self, x):
            if self.attempt == 1:
                raise ValueError
            return x * 2

        with worker():
            assert group(double.s(n) for n in range(3))().get(timeout=LONG, interval=0.01) == [
                0,
                2,
                4,
            ]
