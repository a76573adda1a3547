"""Every route that writes a row and dispatches a job does both or neither, even if its process
dies.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import httpx
import pytest
from sqlalchemy import event, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.models import (
    Case,
    Distributor,
    Event,
    Export,
    File,
    FileBatch,
    Import,
    Order,
    Product,
    Report,
    Store,
    StoreProduct,
    User,
    Webhook,
    session,
)
from app.models.base import now
from tasks import reports
from tests.support.crashes import committing
from tests.support.waits import LONG
from web import create
from web.access import new_token

#: The route, what it is asked, the row it writes.
ROUTES = [
    ("generate-report", {"type": "user-activity"}, Report),
    ("events/1/exports", {"format": "csv"}, Export),
    ("imports?name=a.csv", b"name,email\n", Import),
    ("webhooks", {"url": "http://example.com", "body": {}}, Webhook),
    ("stores", {"distributor_id": 1, "name": "Corner"}, Store),
    ("orders", {"store_id": 1, "lines": [{"product_id": 1, "quantity": 1}]}, Order),
    ("cases", {"number": "AZ 7"}, Case),
    ("users", {"name": "Zoë", "email": "zoe@example.com"}, User),
    ("batch-process-files", {"file_ids": [1]}, FileBatch),
]


@pytest.fixture
def world(server, shop):
    """What the requests are about; its `ask` asks as an administrator."""
    root = shop.user("Root", admin=True)
    acme = shop.add(Distributor(name="Acme")).id
    store = shop.add(Store(user_id=root.id, distributor_id=acme, name="Corner")).id
    product = shop.add(Product(distributor_id=acme, sku="S", name="P", price=1, stock=3)).id
    shop.add(StoreProduct(store_id=store, product_id=product, sku="S", name="P", price=1, stock=3))
    shop.add(Event(user_id=root.id, name="July", starts_at=now(), capacity=1))
    shop.add(
        File(user_id=root.id, disk="local", path="a", original_name="a", mime="image/png", size=1)
    )
    headers = {"Authorization": f"Bearer {new_token(root.id, 't', ['*'], 1)[0]}"}
    with httpx.Client(
        base_url=f"{server}/api", headers=headers, timeout=LONG, verify=False
    ) as client:

        def ask(path, body):
            return client.post(
                path, **({"content": body} if isinstance(body, bytes) else {"json": body})
            )

        yield SimpleNamespace(shop=shop, ask=ask)


def test_every_route_that_writes_a_row_and_dispatches_is_here():
    """Those that are missing dispatch, and write nothing: there is nothing to leave behind."""
    posts = {
        path: methods["post"]
        for path, methods in create().openapi()["paths"].items()
        if "post" in methods
    }
    accepting = {
        path.removeprefix("/api/").replace("{event_id}", "1")
        for path, post in posts.items()
        if "202" in post["responses"]
    }
    without = {
        "process-image/{file_id}",
        "send-notification",
        "events/1/process",
        "failed/retry",
        "failed/{number}/retry",
    }
    assert accepting - without == {path.partition("?")[0] for path, _, _ in ROUTES} - {"users"}


def rows(model):
    with session() as db:
        return db.scalar(select(func.count()).select_from(model))


def jobs(shop):
    return len(shop.queue.pending()) + len(shop.queue.batches())


def uploads(shop):
    return list((shop.folder / "files").rglob("imports/*"))


@contextlib.contextmanager
def death(model, when):
    """The database is gone at a commit of such a row, before it or after it; nothing of the request
    follows.

    At no other commit: the thread that counts requests commits whenever it likes.
    """
    seen = set()

    def note(db, *_others):
        if any(isinstance(row, model) for row in db.new):
            seen.add(db)

    def die(db):
        if when == "before":
            db.flush()
        if db in seen:
            seen.clear()
            raise OperationalError("COMMIT", {}, Exception("gone"))

    event.listen(Session, "before_flush", note)
    try:
        with committing(**{when: die}):
            yield
    finally:
        event.remove(Session, "before_flush", note)


@pytest.mark.parametrize(
    ("path", "body", "model"), ROUTES, ids=lambda part: part if isinstance(part, str) else ""
)
def test_a_process_that_dies_before_the_commit_leaves_nothing_and_after_it_both(
    world, path, body, model
):
    before = rows(model)
    with death(model, "before"):
        assert world.ask(path, body).status_code == 503
    assert (rows(model) - before, jobs(world.shop)) == (0, 0)
    assert not uploads(world.shop)
    with death(model, "after"):
        assert world.ask(path, body).status_code == 503
    assert (rows(model) - before, jobs(world.shop)) == (1, 1)
    assert len(uploads(world.shop)) == (model is Import)


def test_a_task_that_writes_rows_and_dispatches_does_both_or_neither(world):
    with death(Report, "before"):
        world.shop.queue.run(reports.system_daily).assert_retried()
    assert (rows(Report), jobs(world.shop)) == (0, 0)
    world.shop.queue.run(reports.system_daily).assert_completed(1)
    assert (rows(Report), jobs(world.shop)) == (1, 1)
