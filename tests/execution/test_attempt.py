"""Jobs run in place (`sync`): every outcome is carried out, without a broker and without a wait."""

import time

import pytest
from celery.exceptions import Ignore, SoftTimeLimitExceeded

from relevo import clock
from relevo.errors import DeadlineError, JobFailedError, JobMemoryError, OptionError


@pytest.fixture
def failures():
    return []


@pytest.fixture
def flaky(app, failures):
    """A task that fails as often as it is told, and notes its attempts and its end."""

    @app.task(bind=True, tries=3)
    def flaky(self, times, error=ValueError):
        flaky.attempts.append(self.attempt)
        if len(flaky.attempts) <= times:
            raise error(times)
        return "done"

    flaky.attempts = []
    flaky.failed(lambda job, error: failures.append((job, error)))
    return flaky


def test_a_job_is_tried_again_until_it_succeeds(flaky, failures):
    result = flaky.sync(2)
    assert (result.state, result.result, flaky.attempts) == ("SUCCESS", "done", [1, 2, 3])
    assert failures == []


def test_after_the_last_try_celery_records_the_original_error_and_the_hook_runs_once(
    flaky, failures
):
    result = flaky.sync(9)
    assert (result.state, flaky.attempts) == ("FAILURE", [1, 2, 3])
    assert isinstance(result.result, ValueError)
    [(job, error)] = failures
    assert error is result.result
    assert (job.task, job.args, job.attempt, job.exceptions) == (flaky.name, (9,), 3, 3)


def test_an_error_shows_where_it_was_raised_and_nothing_of_ours_below_it(flaky):
    assert "in flaky\n    raise error(times)" in flaky.sync(9).traceback


def test_the_options_of_one_dispatch_count_for_that_job_only(flaky):
    assert flaky.with_options(tries=1).sync(2).state == "FAILURE"
    flaky.attempts.clear()
    assert flaky.with_options(tries=5).sync(4).state == "SUCCESS"
    flaky.attempts.clear()
    assert flaky.sync(4).state == "FAILURE"


def test_max_exceptions_ends_a_job_before_its_tries(flaky, failures):
    flaky.with_options(tries=9, max_exceptions=2).sync(9)
    assert flaky.attempts == [1, 2]
    assert failures[0][0].exceptions == 2


def test_fail_on_timeout_ends_a_job_at_its_soft_limit(flaky, failures):
    flaky.with_options(fail_on_timeout=True).sync(9, error=SoftTimeLimitExceeded)
    assert flaky.attempts == [1]
    assert isinstance(failures[0][1], SoftTimeLimitExceeded)


def test_memory_that_runs_out_is_an_error_that_leaves_the_worker_standing(flaky, failures):
    assert isinstance(flaky.sync(9, error=MemoryError).result, JobMemoryError)
    assert isinstance(failures[0][1], MemoryError)


def test_celerys_own_options_are_left_alone(flaky, failures):
    result = flaky.sync(9, error=Ignore)
    assert (result.state, flaky.attempts, failures) == ("IGNORED", [1], [])


def test_errors_reach_the_caller_where_the_project_wants_it(app, flaky):
    app.conf.task_eager_propagates = True
    assert flaky.sync(2).result == "done"
    flaky.attempts.clear()
    with pytest.raises(ValueError, match="9"):
        flaky.sync(9)


def test_always_eager_dispatch_runs_in_place(app, flaky):
    app.conf.task_always_eager = True
    assert flaky.dispatch(2).result == "done"
    assert flaky.attempts == [1, 2, 3]


def test_a_deadline_alone_means_one_attempt_where_nothing_waits(app):
    attempts = []

    @app.task(bind=True, retry_until=600)
    def hurried(self):
        attempts.append(self.attempt)
        raise ValueError

    assert hurried.sync().state == "FAILURE"
    assert attempts == [1]


def test_a_job_whose_deadline_has_passed_does_not_start(app, failures, monkeypatch):
    ran = []

    @app.task(retry_until=600)
    def late():
        ran.append(True)

    late.failed(lambda _job, error: failures.append(error))
    monkeypatch.setattr(clock, "now", lambda: time.time() - 612)
    options = {}
    # - what a dispatch ten minutes ago put in the message
    from relevo.dispatch.prepare import with_baton  # noqa: PLC0415

    headers = with_baton(late, (), {}, options)["headers"]
    monkeypatch.undo()
    result = late.apply(headers=headers)
    assert isinstance(result.result, DeadlineError)
    assert "could not start: its deadline passed" in str(result.result)
    assert failures == [result.result]
    assert not ran


def test_a_failing_hook_leaves_the_jobs_own_error(app, caplog):
    @app.task(tries=1)
    def process():
        raise ValueError("the job's")

    process.failed(lambda _job, _error: 1 / 0)
    assert str(process.sync().result) == "the job's"
    assert "The failed hook of" in caplog.text


def test_a_hook_alone_makes_the_first_error_the_last(app, failures):
    @app.task
    def process():
        raise ValueError

    process.failed(lambda job, _error: failures.append(job.attempt))
    assert process.sync().state == "FAILURE"
    assert failures == [1]


def test_release_ends_a_job_in_place(app, failures):
    @app.task(bind=True, tries=3)
    def process(self):
        self.release(60)

    process.failed(lambda *_: failures.append(True))
    assert process.sync().state == "IGNORED"
    assert not failures


def test_release_needs_no_options(app):
    @app.task(bind=True)
    def process(self):
        self.release(60)

    assert process.sync().state == "IGNORED"


@pytest.mark.parametrize("seconds", [-1, None, "60", float("inf")])
def test_release_refuses_an_invalid_delay(app, seconds):
    @app.task(bind=True)
    def process(self):
        self.release(seconds)

    assert isinstance(process.sync().result, OptionError)


@pytest.mark.parametrize("options", [{"tries": 5}, {}])
def test_fail_ends_a_job_that_has_tries_left(app, options):
    attempts = []

    @app.task(bind=True, **options)
    def process(self, error):
        attempts.append(self.attempt)
        self.fail(error)

    error = KeyError("gone")
    result = process.sync(error)
    assert (result.state, result.result) == ("FAILURE", error)
    assert "self.fail(error)" in result.traceback
    assert isinstance(process.sync("in words").result, JobFailedError)
    assert attempts == [1, 1]


def test_the_body_called_directly_is_just_the_body(flaky, failures):
    with pytest.raises(ValueError, match="1"):
        flaky(1)
    assert (flaky.attempts, failures) == ([1], [])


def test_tags_and_the_job_reach_the_hook(app, failures):
    @app.task(tries=1, tags=lambda file_id, **_: [f"file:{file_id}"])
    def process(file_id, size=None):
        raise ValueError

    process.failed(lambda job, _error: failures.append((job.tags, job.args, job.kwargs)))
    process.sync(7, size=150)
    assert failures == [(("file:7",), (7,), {"size": 150})]


def test_progress_without_a_result_backend_is_no_error(app):
    @app.task(bind=True)
    def process(self):
        self.progress(1, 3)

    assert process.sync().state == "SUCCESS"


def test_a_tampered_header_is_ignored(flaky):
    for header in (
        "text",
        {"override": {"tries": 0}, "exceptions": "many", "deadline": []},
        {"tags": 5},
        None,
    ):
        flaky.attempts.clear()
        assert flaky.apply((2,), headers={"relevo": header}).state == "SUCCESS"


class TestCelerysRetry:
    """`self.retry()` in a task with tries."""

    def test_celerys_retry_counts_by_tries(self, app, failures):
        attempts = []

        @app.task(bind=True, tries=3)
        def process(self):
            attempts.append(self.attempt)
            raise self.retry(exc=ValueError("still"))

        process.failed(lambda _job, error: failures.append(error))
        result = process.sync()
        assert (attempts, str(result.result)) == ([1, 2, 3], "still")
        assert failures == [result.result]

    def test_celerys_retry_ends_at_its_own_limit(self, app):
        attempts = []

        @app.task(bind=True, tries=9)
        def process(self):
            attempts.append(self.attempt)
            self.retry(exc=ValueError("still"), max_retries=1)

        assert process.sync().state == "FAILURE"
        assert attempts == [1, 2]

    def test_celerys_retry_may_change_the_arguments(self, app):
        @app.task(bind=True, tries=2)
        def process(self, number):
            return number if self.attempt == 2 else self.retry(args=(number * 2,))

        assert process.sync(4).result == 8
