"""The outcome of an attempt: a table of cases, and properties that hold for all."""

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from hypothesis import given
from hypothesis import strategies as st

from relevo.job.options import Options
from relevo.job.outcome import (
    MAX_LOST_CHILDREN,
    Completed,
    DeadlineError,
    Failed,
    FailJob,
    Released,
    ReleaseJob,
    Retry,
    decide,
)
from relevo.job.payload import Baton

NOW = 1_000_000.0
ERROR = ValueError("no")
TIMEOUT = TimeLimitExceeded(30)
SOFT = SoftTimeLimitExceeded()
LOST = WorkerLostError("killed")

# what the task says, how the job stands, how the attempt ended -> what follows
SCENARIOS = [
    # tries and backoff
    ({"tries": 3, "backoff": [10, 30, 60]}, 1, {}, ERROR, Retry(10, ERROR)),
    ({"tries": 3, "backoff": [10, 30, 60]}, 2, {"exceptions": 1}, ERROR, Retry(30, ERROR)),
    ({"tries": 3, "backoff": [10, 30, 60]}, 3, {"exceptions": 2}, ERROR, Failed(ERROR)),
    ({"tries": 5, "backoff": [10, 30]}, 4, {}, ERROR, Retry(30, ERROR)),
    ({"tries": 3}, 2, {}, ERROR, Retry(0, ERROR)),
    ({"tries": 1, "backoff": 10}, 1, {}, ERROR, Failed(ERROR)),
    ({"tries": 3}, 7, {}, ERROR, Failed(ERROR)),
    # a task with a hook and no policy
    ({}, 1, {}, ERROR, Failed(ERROR)),
    ({"timeout": 30}, 1, {}, TIMEOUT, Failed(TIMEOUT)),
    # exceptions
    ({"tries": 10, "max_exceptions": 2}, 1, {"exceptions": 0}, ERROR, Retry(0, ERROR)),
    ({"tries": 10, "max_exceptions": 2}, 2, {"exceptions": 1}, ERROR, Failed(ERROR)),
    ({"tries": 10, "max_exceptions": 2}, 2, {"exceptions": 0}, ERROR, Retry(0, ERROR)),
    ({"max_exceptions": 2}, 9, {"exceptions": 1}, TIMEOUT, Failed(TIMEOUT)),
    # timeouts
    ({"tries": 3, "timeout": 30}, 1, {}, TIMEOUT, Retry(0, TIMEOUT)),
    ({"tries": 3, "fail_on_timeout": True}, 1, {}, TIMEOUT, Failed(TIMEOUT)),
    ({"tries": 3, "fail_on_timeout": True}, 1, {}, SOFT, Failed(SOFT)),
    ({"tries": 3, "fail_on_timeout": True}, 1, {}, ERROR, Retry(0, ERROR)),
    ({"tries": 3, "fail_on_timeout": True}, 1, {}, LOST, Retry(0, LOST)),
    # lost children
    ({"tries": 5}, 4, {"lost": 3}, LOST, Retry(0, LOST)),
    ({"retry_until": 600}, 3, {"lost": MAX_LOST_CHILDREN - 1}, LOST, Failed(LOST)),
    ({"retry_until": 600}, 3, {"lost": MAX_LOST_CHILDREN - 2}, LOST, Retry(0, LOST)),
    # deadlines
    ({"retry_until": 600}, 99, {"deadline": NOW + 60}, ERROR, Retry(0, ERROR)),
    ({"retry_until": 600, "backoff": 60}, 1, {"deadline": NOW + 61}, ERROR, Retry(60, ERROR)),
    ({"retry_until": 600, "backoff": 60}, 1, {"deadline": NOW + 60}, ERROR, Failed(ERROR)),
    ({"retry_until": 600, "tries": 2}, 2, {"deadline": NOW + 600}, ERROR, Failed(ERROR)),
    # release and fail
    ({"tries": 1}, 1, {}, ReleaseJob(60), Released(60)),
    ({"tries": 3, "max_exceptions": 1}, 3, {"exceptions": 1}, ReleaseJob(0), Released(0)),
    ({"retry_until": 600}, 1, {"deadline": NOW + 61}, ReleaseJob(60), Released(60)),
    ({"tries": 9}, 1, {}, FailJob(ERROR), Failed(ERROR)),
]


@pytest.mark.parametrize(("says", "attempt", "stands", "ended", "expected"), SCENARIOS)
def test_each_end_of_an_attempt_has_its_outcome(says, attempt, stands, ended, expected):
    options = Options().with_given(says, "shop.task")
    assert (
        decide(ended, None, attempt=attempt, baton=Baton(**stands), options=options, now=NOW)
        == expected
    )


def test_a_job_that_returns_is_completed_even_if_it_returns_an_error():
    outcome = decide(None, ERROR, attempt=3, baton=Baton(), options=Options(), now=NOW)
    assert outcome == Completed(ERROR)


def test_a_release_past_the_deadline_fails_at_once_and_says_why():
    options = Options().with_given({"retry_until": 600}, "shop.task")
    baton = Baton(deadline=NOW + 60)
    outcome = decide(ReleaseJob(60), None, attempt=1, baton=baton, options=options, now=NOW)
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, DeadlineError)
    assert "released for 60 s" in str(outcome.error)


def test_a_backoff_that_raises_ends_the_job_with_what_it_raised():
    options = Options().with_given({"tries": 3, "backoff": lambda _attempt: 1 / 0}, "shop.task")
    outcome = decide(ERROR, None, attempt=1, baton=Baton(), options=options, now=NOW)
    assert isinstance(outcome.error, ZeroDivisionError)


def test_the_caller_gives_the_random_jitter():
    options = Options().with_given({"tries": 3, "backoff": 10, "jitter": 0.5}, "shop.task")
    outcome = decide(ERROR, None, attempt=1, baton=Baton(), options=options, now=NOW, dice=1.0)
    assert outcome == Retry(15, ERROR)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "tries": st.integers(1, 6),
        "max_exceptions": st.integers(1, 6),
        "backoff": st.lists(st.floats(0, 100), min_size=1, max_size=3),
        "retry_until": st.floats(1, 300),
        "fail_on_timeout": st.booleans(),
    },
)
ENDINGS = st.sampled_from([ERROR, TIMEOUT, LOST, ReleaseJob(5)])


@given(OPTIONS, st.lists(ENDINGS, min_size=40, max_size=40))
def test_every_job_ends_within_its_tries_exceptions_and_deadline(says, endings):
    """The life of a job as a loop: each outcome of `decide` is carried out until the job has
    failed.
    """
    options = Options().with_given(says, "shop.task")
    deadline = NOW + options.retry_until if options.retry_until else None
    baton, attempt, now, burned, released = Baton(deadline=deadline), 1, NOW, 0, 0
    for ended in endings:
        assert deadline is None or now < deadline
        outcome = decide(ended, None, attempt=attempt, baton=baton, options=options, now=now)
        if isinstance(outcome, Failed):
            burned += not isinstance(ended, ReleaseJob)
            break
        if isinstance(outcome, Released):
            released, now = released + 1, now + outcome.seconds
            continue
        burned, now = burned + 1, now + outcome.seconds
        baton, attempt = baton.after_error(ended), attempt + 1
    assert options.tries is None or burned <= options.tries
    assert options.max_exceptions is None or burned <= options.max_exceptions
    assert options.has_retry_policy or burned <= 1
    if options.tries is not None or options.max_exceptions is not None:
        assert isinstance(outcome, Failed) or released
