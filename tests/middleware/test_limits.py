"""The middlewares of limits: a job's key, a job over the limit, and options that are refused."""

from __future__ import annotations

import itertools
import logging
import re

import click
import pytest
from celery.signals import worker_init

from relevo import clock, config
from relevo.app import create_app
from relevo.drivers.contract import Lease, NewJob
from relevo.errors import DriverUnavailableError, OptionError, UndefinedLimitError
from relevo.execution import unique_release
from relevo.job.control_flow import CancelJob, FailJob, ReleaseJob
from relevo.job.options import Options
from relevo.job.payload import Baton
from relevo.limits.rates import Rate
from relevo.middleware import (
    FunctionMiddleware,
    RateLimited,
    RunningJob,
    ThrottleErrors,
    Transaction,
    WithoutOverlapping,
    limit_context,
)
from relevo.middleware.limits import check_rates
from relevo.testing import fake

numbers = itertools.count(1)


class Starting:
    """A worker that is about to start."""

    def __init__(self, app):
        self.app = app


@pytest.fixture
def app():
    return make_app()


def make_app(**options):
    settings = config.load({"QUEUE_RESULTS": "none"}, env_file=None)
    url = f"relevo://limits-{next(numbers)}"
    return create_app("shop", settings, limits={"mail": "2/hour"}, broker_url=url, **options)


@pytest.fixture
def job(app):
    """Make a job that a worker has just taken."""

    @app.task(name="events.process")
    def process(event_id, user=None, **more): ...

    driver = limit_context.driver_of(app)

    def make(*args, deadline=None, **kwargs):
        name = f"job-{next(numbers)}"
        driver.put([NewJob(name, "{}", name)])
        [taken] = driver.reserve([name], 1, 30, "worker")
        return RunningJob(
            id=name,
            task=process.name,
            args=args,
            kwargs=kwargs,
            queue=name,
            attempt=1,
            exceptions=0,
            deadline=deadline,
            tags=(),
            options=Options(),
            lease=taken.lease.token,
            app=app,
        )

    return make


def run(middleware, job, body=lambda: "done"):
    return middleware.handle(job, body)


def over(middleware, job):
    """For how long a job is sent away, that is not run."""
    with pytest.raises(ReleaseJob) as told:
        run(middleware, job, body=lambda: pytest.fail("it ran"))
    return told.value.seconds


# --- without overlapping --------------------------------------------------------------------------
def test_jobs_of_one_key_run_one_after_the_other_and_those_of_others_beside_them(job):
    alone, waiting, waits = WithoutOverlapping(by="event_id"), job(7), []

    def body():
        waits.append(over(alone, waiting))
        return run(alone, job(8))

    assert run(alone, job(7), body) == "done"
    assert 1 < waits[0] < 3
    assert run(alone, waiting) == "done"


@pytest.mark.parametrize(
    ("by", "key"),
    [
        (None, "overlap/events.process"),
        ("event_id", "overlap/events.process/7"),
        ("user", "overlap/events.process/None"),
        (["event_id", "user"], "overlap/events.process/['7', 'None']"),
        ("extra", "overlap/events.process/x"),
        (lambda event_id, **_: event_id % 2, "overlap/events.process/1"),
    ],
)
def test_the_key_of_a_job_comes_from_its_arguments(app, job, by, key):
    limits = limit_context.limits_for(limit_context.driver_of(app))
    run(
        WithoutOverlapping(by=by),
        job(7, extra="x"),
        lambda: [view.key for view in limits.views()].index(key),
    )
    assert limits.views() == []


@pytest.mark.parametrize(
    "by", ["password", ["event_id", "password"], lambda event_id, **_: event_id]
)
def test_a_key_made_of_redacted_arguments_is_hidden(app, job, by):
    one, other = (
        limit_context.by_value(by, job(7, password=word)) for word in ("hunter2", "hunter3")
    )
    assert one.startswith("redacted:")
    assert "hunter" not in one + other
    assert (one == other) == callable(by)
    assert limit_context.by_value("event_id", job(7, password="hunter2")) == "7"


def test_tasks_that_share_a_key_exclude_each_other(job):
    one, other = WithoutOverlapping(key="disk"), WithoutOverlapping(key="disk")
    assert run(one, job(1), lambda: over(other, job(2))) > 1


@pytest.mark.parametrize(
    "end", [ReleaseJob(5), FailJob(ValueError()), CancelJob(""), ValueError(), SystemExit()]
)
def test_however_the_run_ends_the_permit_is_given_back(job, end):
    alone = WithoutOverlapping()

    def body():
        raise end

    with pytest.raises(type(end)):
        run(alone, job(1), body)
    assert run(alone, job(1)) == "done"


def test_a_waiting_job_is_called_when_a_permit_is_free(app, job):
    alone, driver, waiting = WithoutOverlapping(), limit_context.driver_of(app), job(2)

    def body():
        wait = over(alone, waiting)
        [held] = driver._jobs.with_ids([waiting.id])
        driver.release([Lease(held.key, held.token)], wait)

    run(alone, job(1), body)
    assert driver.sizes(waiting.queue).pending == 1


def test_a_job_over_the_limit_can_be_skipped(job):
    alone = WithoutOverlapping(otherwise="skip")
    with pytest.raises(CancelJob, match="of overlap/events"):
        run(alone, job(1), lambda: run(alone, job(2)))


def test_a_wait_does_not_reach_past_the_deadline_while_there_is_time(job):
    alone = WithoutOverlapping()
    assert run(alone, job(1), lambda: over(alone, job(2, deadline=clock.now() + 2))) < 1.1


# --- rates ----------------------------------------------------------------------------------------
def test_a_job_over_the_rate_is_released_until_the_window_opens(job):
    limited = RateLimited("mail", by="user")
    assert [run(limited, job(1, user="a")) for _ in range(2)] == ["done", "done"]
    assert 3590 < over(limited, job(1, user="a")) <= 3601
    assert run(limited, job(1, user="b")) == "done"


@pytest.mark.parametrize(
    "behind",
    [WithoutOverlapping(), WithoutOverlapping(otherwise="skip"), ThrottleErrors(1, 60)],
    ids=["waits", "is skipped", "breaker"],
)
def test_a_job_refused_by_a_later_limit_uses_nothing_of_the_rate(app, job, behind):
    limited = RateLimited("mail")

    def taken():
        return sum(
            view.used
            for view in limit_context.limits_for(limit_context.driver_of(app)).views("rate/")
        )

    def body():
        with pytest.raises((ReleaseJob, CancelJob)):
            run(limited, two := job(2), lambda: run(behind, two, lambda: pytest.fail("it ran")))
        return taken()

    if isinstance(behind, ThrottleErrors):
        with pytest.raises(ValueError, match="down"):
            run(behind, job(1), broken)
        assert body() == 0
    else:
        assert run(behind, job(1), body) == 0
    with pytest.raises(ReleaseJob):  # the job's own word: it ran
        run(limited, one := job(3), lambda: one.release(1))
    assert taken() == 1


def test_what_a_job_costs_is_counted(job):
    limited = RateLimited("mail", cost=lambda event_id, **_: event_id)
    assert run(limited, job(0)) == "done"
    assert run(limited, job(2)) == "done"
    assert over(limited, job(1)) > 0
    assert run(limited, job(0)) == "done"


def test_a_job_over_the_rate_can_be_skipped(job):
    limited = RateLimited("mail", otherwise="skip")
    run(limited, job(1))
    run(limited, job(1))
    with pytest.raises(CancelJob, match="rate/mail"):
        run(limited, job(1))


def test_an_undefined_limit_is_an_error_with_the_likely_name(job):
    with pytest.raises(OptionError, match="no limit named 'mial'; did you mean 'mail'"):
        run(RateLimited("mial"), job(1))


def test_a_worker_does_not_start_with_a_task_of_an_undefined_rate(app):
    # Given one task with a rate that is there, and one with a rate that is not
    @app.task(name="email.send", middleware=[RateLimited("mail")])
    def send(): ...

    worker_init.send(sender=Starting(app))

    @app.task(name="email.welcome", middleware=[WithoutOverlapping(), RateLimited("mial")])
    def welcome(): ...

    # When a worker starts, I expect an error that names both
    line = "task 'email.welcome' is limited by 'mial': no limit named 'mial'; did you mean 'mail'?"
    with click.Context(click.Command("worker")), pytest.raises(SystemExit):
        worker_init.send(sender=Starting(app))
    with pytest.raises(UndefinedLimitError, match=re.escape(line)):
        check_rates(app)


def test_a_rate_that_is_defined_later_counts_then(app, job):
    app.limits.define("late", "1/hour")
    limited = RateLimited("late")
    assert run(limited, job(1)) == "done"
    assert over(limited, job(1)) > 0
    assert dict(app.limits) == {"mail": Rate.of("2/hour"), "late": Rate.of("1/hour")}


# --- errors ---------------------------------------------------------------------------------------
def broken():
    raise ValueError("down")


def test_after_so_many_errors_all_jobs_of_the_key_wait(job):
    throttled = ThrottleErrors(2, per=60, wait=30, by="user")
    for _ in range(2):
        with pytest.raises(ValueError, match="down"):
            run(throttled, job(1, user="a"), broken)
    assert 29 < over(throttled, job(1, user="a")) <= 30
    assert run(throttled, job(1, user="b")) == "done"


def test_a_job_that_waits_for_a_breaker_is_called_when_it_is_cleared(app, job):
    throttled, driver, waiting = ThrottleErrors(1, per=600), limit_context.driver_of(app), job(2)
    with pytest.raises(ValueError, match="down"):
        run(throttled, job(1), broken)
    wait = over(throttled, waiting)
    [held] = driver._jobs.with_ids([waiting.id])
    driver.release([Lease(held.key, held.token)], wait)
    assert limit_context.clear(driver, "errors/events.process") == 1
    assert driver.sizes(waiting.queue).pending == 1


def test_a_success_forgets_the_errors_and_other_ends_do_not_count(job):
    throttled = ThrottleErrors(2, per=60, only=ValueError)

    def other():
        raise KeyError

    for body, error in ((broken, ValueError), (other, KeyError)):
        with pytest.raises(error):
            run(throttled, job(1), body)
    with pytest.raises(ReleaseJob):
        run(throttled, job(1), lambda: job(1).release(3))
    assert run(throttled, job(1)) == "done"
    with pytest.raises(ValueError, match="down"):
        run(throttled, job(1), broken)
    assert run(throttled, job(1)) == "done"


# --- a key that is free at the start --------------------------------------------------------------
def test_the_unique_key_is_freed_after_the_limits_and_before_the_other_middlewares(app):
    around = [
        Transaction(),
        RateLimited("mail"),
        ThrottleErrors(1, 60),
        FunctionMiddleware(lambda _, call_next: call_next()),
    ]

    def placed(**options):
        @app.task(name=f"task-{next(numbers)}", **options)
        def task(): ...

        task.push_request(retries=0)
        baton = Baton(unique={"until": "start"})
        names = [
            each.name
            for each in unique_release.with_unique_release(task, baton, task.options.middleware)
        ]
        return names.index("_ReleaseUniqueKey") if "_ReleaseUniqueKey" in names else None

    assert placed(middleware=around) == 3
    assert placed(middleware=around, acks_late=False) is None
    assert placed(middleware=around[:1]) is None
    assert len(unique_release.late_release_tasks(app)) == 1


# --- around them ----------------------------------------------------------------------------------
ALL = [WithoutOverlapping(), RateLimited("mail"), ThrottleErrors(1, 60)]


def test_in_place_and_in_a_fake_nothing_is_limited(app):
    @app.task(name="all", middleware=ALL, tries=1)
    def process():
        return "done"

    assert [process.sync().result for _ in range(4)] == ["done"] * 4
    with fake(app=app) as fakes:
        for _ in range(4):
            fakes.run(process).assert_completed("done")


@pytest.mark.parametrize("middleware", ALL, ids=lambda each: each.name)
def test_while_the_limits_are_away_jobs_wait(job, middleware, monkeypatch, caplog):
    def away(*_):
        raise DriverUnavailableError

    limits = limit_context.limits_for(limit_context.driver_of((one := job(1)).app))
    for verb in ("take", "hit", "check_breaker"):
        monkeypatch.setattr(limits, verb, away)
    with caplog.at_level(logging.WARNING):
        assert over(middleware, one) == 2
    assert "waits for its limits" in caplog.text


def test_a_permit_that_can_not_be_given_back_does_not_fail_the_job(app, job, monkeypatch, caplog):
    def away(*_):
        raise DriverUnavailableError

    monkeypatch.setattr(limit_context.limits_for(limit_context.driver_of(app)), "release", away)
    with caplog.at_level(logging.WARNING):
        assert run(WithoutOverlapping(), job(1)) == "done"
    assert "ends with its lease" in caplog.text


def test_a_task_that_acks_early_has_no_lease_to_hold_a_permit_under(app, job):
    one = job(1)
    app.tasks[one.task].acks_late = False
    with pytest.raises(OptionError, match="acks early"):
        run(WithoutOverlapping(), one)


def test_an_argument_that_is_not_there_is_named(app, job):
    one = job(7)
    with pytest.raises(OptionError, match="an argument named 'evnt_id'"):
        run(WithoutOverlapping(by="evnt_id"), one)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: WithoutOverlapping(at_most=0), "at_most to be a positive integer, got 0"),
        (lambda: WithoutOverlapping(at_most=True), "at_most"),
        (lambda: WithoutOverlapping(by=7), "expected by to be"),
        (lambda: WithoutOverlapping(by=[]), "expected by to be"),
        (lambda: WithoutOverlapping(key="a/b"), "without '/'"),
        (lambda: WithoutOverlapping(otherwise="drop"), "'wait' or 'skip', got 'drop'"),
        (lambda: RateLimited(""), "1 to 100 characters"),
        (lambda: RateLimited("mail", cost=-1), "cost to be a number of units, got -1"),
        (lambda: RateLimited("mail", cost=float("nan")), "cost"),
        (lambda: ThrottleErrors(0, 60), "errors to be a positive integer, got 0"),
        (lambda: ThrottleErrors(1, 0), "per to be a positive number of seconds, got 0"),
        (lambda: ThrottleErrors(1, 60, wait=-1), "wait to be a positive number"),
        (lambda: make_app().limits.define("a", "1/fortnight"), "expected a rate like"),
        (lambda: make_app().limits.define("x" * 101, "1/hour"), "1 to 100 characters"),
    ],
)
def test_invalid_options_are_refused_where_they_are_given(make, said):
    with pytest.raises(OptionError, match=said):
        make()
