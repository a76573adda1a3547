"""Batches and chains of an app that runs its jobs in place, one member after the other."""

from __future__ import annotations

import celery
import pytest

from relevo import config
from relevo.app import create_app


@pytest.fixture
def shop(tmp_path):
    environ = {
        "QUEUE_CONNECTION": "sync",
        "DATABASE_URL": f"sqlite:///{tmp_path}/relevo.sqlite3",
        "RELEVO_VAR_DIR": str(tmp_path),
    }
    app = create_app("shop", config.load(environ, None))
    app.said = []

    @app.task(name="say", shared=False)
    def say(*given):
        app.said.append(given)
        return given[-1]

    @app.task(name="breaks", shared=False)
    def breaks(*given):
        raise ValueError(given)

    @app.task(name="grows", shared=False, bind=True)
    def grows(self):
        self.batch.add([say.si("added")])

    return app


def told(new, say):
    return new.then(say.si("then")).catch(say.si("catch")).finally_(say.si("finally"))


def test_callbacks_run_and_a_chain_among_them_runs_to_its_end(shop):
    say = shop.tasks["say"]
    new = told(shop.batch([say.si(1), [say.si(2), say.s(3)]]), say).then(
        celery.chain(say.s("a"), say.s("b"))
    )
    batch = new.dispatch()
    assert (batch.total, batch.completed, batch.finished) == (2, 2, True)
    assert shop.said == [(1,), (2,), (2, 3), ("then",), (batch.id, "a"), ("a", "b"), ("finally",)]


def test_a_member_may_add_others(shop):
    batch = shop.batch([shop.tasks["grows"].si(), shop.tasks["say"].si(1)]).dispatch()
    assert (batch.total, batch.completed, batch.finished) == (3, 3, True)
    assert shop.said == [("added",), (1,)]


@pytest.mark.parametrize("allowed", [False, True])
def test_a_batch_as_a_link_passes_its_id_on_or_ends_the_chain(shop, allowed):
    say, breaks = shop.tasks["say"], shop.tasks["breaks"]
    good = told(shop.chain(shop.batch([say.si(1)]), say.s("last")), say).dispatch()
    inner = shop.said[1][0]
    assert shop.said == [(1,), (inner, "last"), ("then",), ("finally",)]
    assert (good.completed, shop.batches.find(inner).completed) == (2, 1)
    shop.said.clear()
    batch = shop.batch([say.si(1), breaks.si()]).allow_failures(allowed)
    chain = told(shop.chain(batch, say.si("last")), say).dispatch()
    assert (chain.completed, chain.failed, chain.finished) == (
        (2, 0, True) if allowed else (0, 1, True)
    )
    assert shop.said == [(1,), *([("last",), ("then",)] if allowed else [("catch",)]), ("finally",)]
