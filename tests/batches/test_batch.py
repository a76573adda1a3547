"""A batch from its dispatch to its callbacks, in a worker on SQLite and on Redis."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import celery
import pytest

from relevo.batches import member_jobs
from relevo.errors import BatchError, OptionError
from relevo.job.membership import OUTBOX_HEADER
from relevo.recording import endings
from relevo.store import failed, outbox, outcomes
from relevo.store.store import store_for
from relevo.worker import cancelled_batches
from tests.support import batch_tasks
from tests.support.batch_tasks import calls_of, finished, task_of, working
from tests.support.waits import eventually


@pytest.fixture
def app(batch_app):
    return batch_app


def callbacks(new, say):
    return new.then(say.s("then")).catch(say.s("catch")).finally_(say.s("finally"))


def test_every_member_runs_and_each_callback_once(app, calls):
    say = task_of(app, "say")
    new = (
        app.batch(task_of(app, "work").s(number) for number in range(30))
        .name("import")
        .before(say.s("before"))
    )
    with working(app):
        batch = callbacks(new, say).dispatch()
        finished(batch)
        eventually(lambda: calls_of("finally") and calls_of("then"))
    assert Counter(calls_of("work")) == Counter(range(30))
    assert (batch.name, batch.total, batch.completed, batch.failed, batch.pending) == (
        "import",
        30,
        30,
        0,
        0,
    )
    assert (batch.percent, batch.cancelled, batch.kind) == (100, False, "batch")
    assert calls_of("before") == calls_of("then") == calls_of("finally") == [batch.id]
    assert calls_of("catch") == []
    assert app.batches.find(batch.id).as_dict() == batch.as_dict()
    assert [each.id for each in app.batches.page()] == [batch.id]


def test_an_allowed_failure_lets_the_other_members_run_and_a_retry_completes_the_batch(app, calls):
    work, say = task_of(app, "work"), task_of(app, "say")
    with working(app):
        batch = callbacks(
            app.batch([work.s(1), work.s(2, fails=True), work.s(3)]).allow_failures(), say
        ).dispatch()
        finished(batch)
        eventually(lambda: calls_of("finally"))
        assert (batch.completed, batch.failed, batch.cancelled) == (2, 1, False)
        assert calls_of("then") == []
        assert calls_of("catch") == [batch.id]
        batch_tasks.mended.set()
        assert batch.retry_failed() == 1
        assert batch.retry_failed() == 0
        eventually(lambda: calls_of("then"))
    batch.refresh()
    assert (batch.completed, batch.failed, batch.processed, batch.total) == (3, 0, 3, 3)
    assert sorted(calls_of("work")) == [1, 2, 2, 3]
    assert calls_of("finally") == calls_of("catch") == calls_of("then") == [batch.id]


def test_a_failure_cancels_the_other_members(app, calls):
    work, say = task_of(app, "work"), task_of(app, "say")
    members = [work.s(0, fails=True), *(work.s(number) for number in range(1, 20))]
    batch = callbacks(app.batch(members), say).dispatch()
    with working(app, 1):
        finished(batch)
        eventually(lambda: calls_of("finally"))
    assert batch.cancelled
    assert batch.failed == 1
    assert batch.completed + batch.dropped == 19
    assert calls_of("catch") == calls_of("finally") == [batch.id]
    assert calls_of("then") == []


def test_cancelled_members_that_have_not_started_are_dropped(app, calls, monkeypatch):
    monkeypatch.setattr(cancelled_batches, "FRESH_SECONDS", 0)
    work, wait, say = task_of(app, "work"), task_of(app, "wait"), task_of(app, "say")
    batch = callbacks(
        app.batch([wait.s(0), *(work.s(number) for number in range(9))]), say
    ).dispatch()
    with working(app, 1):
        eventually(lambda: calls_of("wait"))
        batch.cancel()
        batch_tasks.gate.set()
        finished(batch)
        eventually(lambda: calls_of("finally"))
    assert (batch.completed, batch.dropped, batch.pending, batch.cancelled) == (1, 9, 0, True)
    assert calls_of("work") == calls_of("then") == []
    with pytest.raises(BatchError, match="nothing can be added"):
        batch.add([work.s(1)])


def test_a_batch_can_be_added_to_from_inside_and_from_outside(app, calls):
    work, wait, more, say = (
        task_of(app, "work"),
        task_of(app, "wait"),
        task_of(app, "more"),
        task_of(app, "say"),
    )
    batch = callbacks(app.batch([wait.s(0), more.s([1, 2, 3])]), say).dispatch()
    with working(app):
        eventually(lambda: calls_of("wait") and len(calls_of("work")) == 3)
        batch.add([work.s(4), [work.s(5), work.si(6)]])
        assert batch.total == 7
        batch_tasks.gate.set()
        finished(batch)
        eventually(lambda: calls_of("finally"))
    assert sorted(calls_of("work")) == [1, 2, 3, 4, 5, 6]
    assert (batch.total, batch.completed) == (7, 7)
    with pytest.raises(BatchError, match="has finished"):
        batch.add([work.s(1)])


def test_a_chain_is_one_member(app, calls):
    work = task_of(app, "work")
    with working(app):
        batch = app.batch(
            [[work.si(1), work.si(2)], [work.si(3, fails=True), work.si(4)], work.s(5)]
        ).allow_failures()
        batch = finished(batch.dispatch())
    assert (batch.total, batch.completed, batch.failed) == (3, 2, 1)
    assert sorted(calls_of("work")) == [1, 2, 3, 5]


def test_progress_is_reported_once_per_percent(app, calls):
    with working(app):
        batch = (
            app.batch(task_of(app, "work").s(n) for n in range(4))
            .progress(task_of(app, "say").s("progress"))
            .dispatch()
        )
        finished(batch)
        eventually(lambda: calls_of("progress"))
    assert 1 <= len(calls_of("progress")) <= 4


def test_an_empty_batch_has_finished_at_once(app, calls):
    with working(app):
        then = celery.chain(task_of(app, "say").s("chain"), task_of(app, "say").si(0, "its end"))
        batch = callbacks(app.batch([]), task_of(app, "say")).then(then).dispatch()
        assert batch.finished
        assert batch.percent == 100
        eventually(lambda: calls_of("then") and calls_of("finally") and calls_of("its end"))
    assert calls_of("chain") == [batch.id]


def test_the_same_dispatch_done_twice_is_one_batch(app, calls):
    work = task_of(app, "work")
    first = app.batch([work.s(1), work.s(2)]).then(task_of(app, "say").s()).dispatch(id="import-7")
    second = app.batch([work.s(1), work.s(2)]).then(task_of(app, "say").s()).dispatch(id="import-7")
    assert first.id == second.id == "import-7"
    with working(app):
        finished(first)
        eventually(lambda: calls_of("then"))
    assert sorted(calls_of("work")) == [1, 2]
    assert calls_of("then") == ["import-7"]


def test_the_counts_are_exact_without_history_too(app, calls):
    object.__setattr__(app.settings, "history", "none")
    work = task_of(app, "work")
    with working(app):
        batch = finished(app.batch([work.s(1), work.s(2, fails=True)]).allow_failures().dispatch())
    assert (batch.completed, batch.failed) == (1, 1)
    assert failed.count(store_for(app.settings.database_url), failed.Filter(batch=batch.id)) == 1


def test_an_invalid_batch_is_an_error_of_the_dispatch(app):
    work = task_of(app, "work")
    with pytest.raises(OptionError, match=r"write task\.s\(\)"):
        app.batch([work]).dispatch()
    with pytest.raises(OptionError, match="expected then to be a task's signature"):
        app.batch([]).then(work)
    with pytest.raises(OptionError, match="id of a batch"):
        app.batch([]).dispatch(id="x" * 200)
    with pytest.raises(TypeError):
        app.batch([work.s()]).dispatch()
    for members in (None, 7, "abc", work.s(1), {"a": 1}):
        with pytest.raises(OptionError, match="expected the members of a batch"):
            app.batch(members)
    for id_ in ("a\0b", "a\ud800b"):
        with pytest.raises(OptionError, match="expected the id of a batch to be a text"):
            app.batch([work.s(1)]).dispatch(id=id_)
    for instant in ("x", float("nan"), None):
        with pytest.raises(OptionError, match="POSIX seconds"):
            app.batches.prune(finished=instant)
    with pytest.raises(OptionError, match="limit"):
        app.batches.page(limit=-1)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_queue_that_no_broker_takes_is_an_error_of_the_dispatch(app, name):
    work, say = task_of(app, "work"), task_of(app, "say")
    for new in (
        app.batch([work.s(1)]).on_queue(name),
        app.chain(work.s(1)).on_queue(name),
        app.batch([work.s(1).set(queue=name)]),
        app.batch([]).then(say.s().set(queue=name)),
    ):
        with pytest.raises(OptionError, match="expected queue to"):
            new.dispatch()


def test_an_iterable_that_raises_half_way_is_the_callers_error_and_the_dispatch_can_go_on(
    app, calls
):
    work, say = task_of(app, "work"), task_of(app, "say")

    def members(until):
        for number in range(until):
            yield work.s(number)
        if until < 1200:
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        app.batch(members(1100)).then(say.s()).dispatch(id="half")
    assert (app.batches.find("half").total, app.batches.find("half").finished) == (1000, False)
    assert app.batch(members(1200)).then(say.s()).dispatch(id="half").total == 1200


def test_members_added_during_the_dispatch_take_no_number_of_its_own_members(
    app, calls, monkeypatch
):
    """Two had one number and one id then, so the batch never ended; and a dispatch done again left
    members out.
    """
    monkeypatch.setattr(member_jobs, "PAGE", 2)
    work = task_of(app, "work")

    def members(until):
        for number in range(until):
            if number == until - 1:
                app.batches.find("grows").add([work.s(number + 10)])
            yield work.s(number)
        if until == 3:
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        app.batch(members(3)).dispatch(id="grows")
    batch = app.batch(members(5)).then(task_of(app, "say").s()).dispatch(id="grows")
    with working(app):
        finished(batch)
    assert (batch.total, batch.completed) == (7, 7)
    assert sorted(calls_of("work")) == [0, 1, 2, 3, 4, 12, 14]


def test_two_concurrent_dispatches_of_one_batch_send_each_member_once(app, calls, monkeypatch):
    monkeypatch.setattr(member_jobs, "PAGE", 2)
    work, others = task_of(app, "work"), []

    def members(with_another):
        for number in range(5):
            if with_another and number == 2:
                others.append(app.batch(members(False)).dispatch(id="twins"))
            yield work.s(number)

    batch = app.batch(members(True)).dispatch(id="twins")
    with working(app):
        finished(batch)
    assert (others[0].total, batch.total, batch.completed) == (5, 5, 5)
    assert sorted(calls_of("work")) == [0, 1, 2, 3, 4]


def test_a_batch_can_have_any_text_as_its_name(app):
    names = ["Ünïcødé \N{PARTY POPPER} 漢字", "x" * 10_000, "a\0b", "a\ud800b"]
    made = [app.batch([]).name(name).dispatch().refresh().name for name in names]
    assert made == [names[0], "x" * 255, "a\\x00b", "a\\ud800b"]


def test_the_row_of_a_replaced_job_is_deleted_before_another_job_has_its_id(
    app, calls, monkeypatch
):
    """With its record went the next link's row in the outbox, too, which has the same id: it was
    lost.
    """
    rows, came = [], outbox.delete_delivered
    monkeypatch.setattr(
        outbox,
        "delete_delivered",
        lambda connection, ids: rows.append(list(ids)) or came(connection, ids),
    )
    monkeypatch.setattr(
        outcomes, "write", lambda *_: None
    )  # no record is made, and so no row goes with one
    with working(app):
        app.chain(task_of(app, "goes_on").si("chain"), task_of(app, "say").si(0, "link")).dispatch()
        eventually(lambda: calls_of("link"))
    assert len(rows) == (app.settings.queue_connection == "redis")
    assert (
        endings.for_replacement(SimpleNamespace(id="a", request_dict={OUTBOX_HEADER: True})) is None
    )


@pytest.mark.parametrize(("how", "ran"), [("job", [1]), ("chain", [1, 2]), ("fails", [1])])
def test_a_job_that_replaces_a_member_takes_its_place(app, calls, how, ran):
    goes_on, say = task_of(app, "goes_on"), task_of(app, "say")
    with working(app):
        batch = finished(callbacks(app.batch([goes_on.s(how)]), say).dispatch())
        eventually(lambda: calls_of("finally"))
        chain = finished(callbacks(app.chain(goes_on.si(how), say.si(0, "link")), say).dispatch())
        eventually(lambda: len(calls_of("finally")) == 2)
        later = finished(
            callbacks(
                app.chain(say.si(0, "before"), goes_on.si(how), say.si(0, "link")), say
            ).dispatch()
        )
        eventually(lambda: len(calls_of("finally")) == 3)
    assert (batch.total, batch.completed, batch.failed) == (1, how != "fails", how == "fails")
    assert calls_of("work") == ran * 3
    assert (calls_of("before"), calls_of("link")) == ([0], [] if how == "fails" else [0, 0])
    assert (chain.processed, later.processed) == ((1, 2) if how == "fails" else (2, 3))
    assert len(calls_of("then")) == (0 if how == "fails" else 3)


def test_a_job_that_replaces_a_member_may_add_to_the_batch_too(app, calls):
    """Both have one id: the second's members were taken for the first's, and left out."""
    with working(app):
        batch = finished(app.batch([task_of(app, "more_and_goes_on").s([1, 2, 3])]).dispatch())
    assert sorted(calls_of("work")) == [1, 2, 3]
    assert (batch.total, batch.completed) == (4, 4)
