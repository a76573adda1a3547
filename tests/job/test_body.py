"""A body that a call would not run is refused at the definition."""

from __future__ import annotations

import asyncio

import pytest
from celery import shared_task

from relevo import config
from relevo.app import create_app
from relevo.errors import OptionError


async def fetch(): ...


def rows():
    yield 1


async def stream():
    yield 1


def share(app, function, **options):
    # An app of another test that is still there makes the task at once.
    shared_task(name="shop.task", **options)(function)
    app.finalize()


KINDS = [(fetch, "an async function"), (rows, "a generator"), (stream, "an async generator")]


@pytest.fixture
def shop(tmp_path):
    return create_app(
        "shop",
        config.load({"RELEVO_VAR_DIR": str(tmp_path)}, env_file=None),
        result_backend="cache+memory://",
    )


@pytest.mark.parametrize(("body", "kind"), KINDS)
@pytest.mark.parametrize("options", [{}, {"tries": 3}, {"ignore_result": True}, {"pydantic": True}])
def test_a_decorated_function_that_no_call_runs_is_refused(shop, body, kind, options):
    with pytest.raises(OptionError, match=f"expected a plain function, got {kind}: .*'shop.task'"):
        shop.task(name="shop.task", **options)(body)


@pytest.mark.parametrize(("body", "kind"), KINDS)
@pytest.mark.parametrize("options", [{}, {"pydantic": True}])
def test_a_shared_task_is_refused_at_its_first_use(shop, body, kind, options):
    with pytest.raises(OptionError, match=f"got {kind}"):
        share(shop, body, **options)


@pytest.mark.parametrize(("body", "kind"), KINDS)
def test_a_class_with_such_a_run_is_refused(shop, body, kind):
    with pytest.raises(OptionError, match=f"got {kind}"):
        type("Fetch", (shop.Task,), {"name": "shop.task", "run": body})


def test_a_base_class_that_runs_the_loop_itself_is_trusted(shop):
    class AsyncTask(shop.Task):
        abstract = True

        def __call__(self, *args, **kwargs):
            return asyncio.run(self.run(*args, **kwargs))

    async def double(number):
        return 2 * number

    assert shop.task(base=AsyncTask, shared=False)(double).sync(4).result == 8


def test_a_plain_function_around_a_coroutine_is_one(shop):
    def run():
        return asyncio.run(fetch())

    run.__wrapped__ = fetch
    assert shop.task(shared=False)(run).sync().result is None
