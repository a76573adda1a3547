"""What batches and chains tell of their failures: `catch`, `allow_failures`, and the error."""

from __future__ import annotations

import pytest

from relevo.errors import BatchError, OptionError
from tests.support import batch_tasks
from tests.support.batch_tasks import calls_of, finished, task_of, working
from tests.support.waits import eventually


@pytest.fixture
def app(batch_app):
    """The app, with tasks that note what they are told, each with other parameters."""

    @batch_app.task(name="shop.told", shared=False)
    def told(batch, what, error=None, job_id=None):
        batch_tasks.calls.append(("told", (what, batch, error, job_id)))

    @batch_app.task(name="shop.bound", shared=False, bind=True, tries=2)
    def bound(self, batch, *, error):
        batch_tasks.calls.append(("bound", (batch, error)))

    @batch_app.task(name="shop.given", shared=False)
    def given(batch, error):
        batch_tasks.calls.append(("given", (batch, error)))

    @batch_app.task(name="shop.dirty", shared=False)
    def dirty():
        raise ValueError("é\0" + "x" * 5000)

    return batch_app


@pytest.fixture(params=["worker", "sync"])
def ran(request, app):
    """Dispatches a batch or chain, and returns it when it has finished."""

    def run(new, calls):
        if request.param == "sync":
            app.conf.task_always_eager = True
            made = finished(new.dispatch())
        else:
            with working(app):
                made = finished(new.dispatch())
                eventually(lambda: len(calls_of("told") + calls_of("bound")) >= calls)
        return made

    return run


def test_catch_gets_the_error_and_the_job_of_the_first_failure(app, ran, calls):
    told = task_of(app, "told")
    new = app.batch([task_of(app, "dirty").s()]).catch(told.s("catch"))
    batch = ran(
        new.catch(task_of(app, "bound").s())
        .catch(task_of(app, "given").s("mine"))
        .catch(told.si("x", "immutable"))
        .catch(task_of(app, "say").s("said"))
        .finally_(told.s("finally")),
        4,
    )
    eventually(lambda: calls_of("given") and calls_of("said"))
    [error] = [error for what, _, error, _ in calls_of("told") if what == "catch"]
    assert error.startswith("ValueError: é\\x00xxx")
    assert len(error) <= 2000
    assert sorted(calls_of("told"), key=str) == sorted(
        [
            ("catch", batch.id, error, f"{batch.id}.0"),
            ("immutable", "x", None, None),
            ("finally", batch.id, None, None),
        ],
        key=str,
    )
    assert calls_of("bound") == [(batch.id, error)]
    assert calls_of("given") == [(batch.id, "mine")]
    assert calls_of("said") == [batch.id]


def test_the_signature_of_allow_failures_is_called_once_for_each_failure(app, ran, calls):
    work, told = task_of(app, "work"), task_of(app, "told")
    members = [work.s(number, fails=number % 3 == 0) for number in range(10)]
    batch = ran(app.batch(members).allow_failures(told.s("one")).catch(told.s("catch")), 5)
    assert (batch.failed, batch.completed, batch.cancelled) == (4, 6, False)
    ones = [each for each in calls_of("told") if each[0] == "one"]
    assert sorted(ones) == [
        ("one", batch.id, f"ValueError: {number}", f"{batch.id}.{number}")
        for number in (0, 3, 6, 9)
    ]
    assert len(calls_of("told")) == 5


def test_catch_of_a_chain_gets_the_error_of_the_link_that_failed(app, ran, calls):
    work, told = task_of(app, "work"), task_of(app, "told")
    chain = ran(
        app.chain(work.si(1), work.si(2, fails=True), work.si(3)).catch(told.s("catch")),
        1,
    )
    assert [each[:3] for each in calls_of("told")] == [("catch", chain.id, "ValueError: 2")]


def test_a_chain_of_batches_says_which_member_ended_it(app, calls):
    work, told = task_of(app, "work"), task_of(app, "told")
    with working(app):
        finished(
            app.chain(app.batch([work.s(1, fails=True)]), work.s())
            .catch(told.s("catch"))
            .dispatch()
        )
        eventually(lambda: calls_of("told"))
    [(_, _, error, _)] = calls_of("told")
    assert error.startswith("relevo.errors.JobFailedError: a member of batch ")
    assert error.endswith(" has failed: ValueError: 1")


@pytest.mark.parametrize("given", [print, lambda batch, error: None, "yes", None])
def test_what_no_worker_could_call_is_refused(app, given):
    with pytest.raises(OptionError, match="allow_failures to be True, False or a task's signature"):
        app.batch([]).allow_failures(given)
    with pytest.raises(OptionError, match=r"write task\.s\(\)"):
        app.batch([]).allow_failures(task_of(app, "told"))


@pytest.mark.parametrize("eager", [False, True])
def test_nothing_can_be_added_to_a_chain(app, calls, eager):
    work = task_of(app, "work")
    app.conf.task_always_eager = eager
    chain = app.chain(work.si(1), work.si(2)).dispatch()
    with pytest.raises(BatchError, match=r"is a chain: .*app.chain\(...\).add\(link\)"):
        chain.add([work.si(3)])
    assert chain.refresh().total == 2
