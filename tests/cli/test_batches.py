"""`celery -A tasks batches …` and `outbox status`: their output, effects and errors."""

from __future__ import annotations

import json

import pytest

from relevo import clock
from relevo.cli.batches import batches, outbox
from relevo.store import batches as store_batches
from relevo.store import failed as store_failed
from relevo.store import outbox as store_outbox
from relevo.store.batches import MemberEnd
from relevo.store.failed import FailedJob
from relevo.store.outbox import Sending


@pytest.fixture
def batch(app):
    @app.task(name="shop.work", shared=False)
    def work(number): ...

    return (
        app.batch(work.s(number) for number in range(4)).name("import").allow_failures().dispatch()
    )


def end(store, batch, *states):
    ends = [
        MemberEnd(batch.id, number, state, f"{batch.id}.{number}")
        for number, state in enumerate(states)
    ]
    store.write(store_batches.prepare_ends(ends, store_outbox.add))


def test_no_batches_is_no_error(run):
    assert run(batches, "list").output == "No batches.\n"
    assert json.loads(run(batches, "list", "--json").output) == []


def test_list_and_show_have_the_progress(run, store, batch):
    end(store, batch, "completed", "failed")
    line = run(batches, "list").output.splitlines()[1]
    assert line.split()[:4] == [batch.id, "import", "batch", "running"]
    told = json.loads(run(batches, "show", batch.id, "--json").output)
    assert (told["percent"], told["failed_members"]) == (50, [f"{batch.id}.1"])
    assert run(batches, "list", "--before", batch.id).output == "No batches.\n"


def test_cancel_asks_and_cancels_members_that_have_not_started(run, batch):
    assert run(batches, "cancel", batch.id, typed="n\n").exit_code == 1
    assert not batch.refresh().cancelled
    assert run(batches, "cancel", batch.id, "--yes").exit_code == 0
    assert batch.refresh().cancelled


def test_cancelling_twice_or_after_the_end_changes_nothing(run, store, batch):
    for _ in range(2):
        assert (
            "was cancelled: 4 have not ended yet"
            in run(batches, "cancel", batch.id, "--yes").output
        )
    cancelled_at = batch.refresh().cancelled_at
    end(store, batch, *["completed"] * 4)
    assert "has finished: there is nothing to cancel" in run(batches, "cancel", batch.id).output
    assert batch.cancel().cancelled_at == cancelled_at


def test_a_finished_batch_can_not_be_cancelled(run, store, batch):
    end(store, batch, *["completed"] * 4)
    assert json.loads(run(batches, "cancel", batch.id, "--json").output)["cancelled"] is False
    assert not batch.cancel().cancelled


def test_retry_puts_the_failed_members_back(run, store, driver, batch):
    [view, *_] = driver.peek("default", "pending")
    job = FailedJob(
        uuid=view.id,
        queue="default",
        connection="database",
        payload=view.payload,
        task="shop.work",
        exception="ValueError",
        message="no",
        failed_at=clock.now(),
        batch=batch.id,
    )
    store.write(lambda connection: store_failed.record(connection, [job]))
    assert run(batches, "retry", batch.id).output == "1 put back.\n"
    assert json.loads(run(batches, "retry", batch.id, "--json").output) == {"retried": 0}


def test_prune_deletes_old_batches(run, store, batch, app):
    assert run(batches, "prune", "--hours", 1).output == "0 deleted.\n"
    assert run(batches, "prune", "--hours", 0, "--unfinished", 0).output == "1 deleted.\n"
    assert app.batches.find(batch.id) is None
    assert store_batches.ended_members(store, batch.id) == []


def test_an_unknown_batch_is_an_error_of_one_line(run):
    for command in (["show"], ["cancel", "--yes"], ["retry"]):
        result = run(batches, *command, "nothing")
        assert result.exit_code == 1
        assert "there is no batch nothing" in result.output


def test_the_outbox_shows_waiting_jobs(run, store):
    assert run(outbox, "status").output == "Nothing waits.\n"
    waits = [
        Sending(connection="redis", queue="default", uuid=f"a-{n}", payload="{}") for n in range(3)
    ]
    store.write(lambda connection: store_outbox.add(connection, waits))
    [row] = json.loads(run(outbox, "status", "--json").output)
    assert (row["connection"], row["jobs"]) == ("redis", 3)
