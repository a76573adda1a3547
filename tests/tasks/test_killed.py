"""Every job of the application, killed at each moment at which that could matter, and run again: as
if it had run once.

The moments are those around each commit and around each effect that no commit covers (a file, a
mail, a request). What ran half is not undone, as after a kill -9; tests/flow kills real workers.
"""

from __future__ import annotations

import dataclasses
import os
from datetime import timedelta
from types import MappingProxyType, SimpleNamespace

import pytest
from sqlalchemy import func, select

import tasks
from app.models import (
    Attendee,
    Case,
    Distributor,
    Event,
    Export,
    File,
    FileVersion,
    Import,
    ImportRow,
    Mail,
    Order,
    OrderLine,
    Product,
    Report,
    Store,
    StoreProduct,
    Token,
    User,
    Webhook,
    session,
)
from app.models.base import now
from relevo.config.services import AlertSettings
from tasks import (
    alerts,
    cases,
    catalog,
    cleanup,
    email,
    events,
    exports,
    files,
    images,
    imports,
    orders,
    reports,
    storage,
    webhooks,
)
from tests.support.crashes import Died, mortal
from tests.support.http_receiver import receiving
from tests.support.payment_provider import Payment, Provider
from tests.support.pictures import saved, scene

PICTURE = saved(scene(80, 60), "PNG").getvalue()
#: More moments than any job has.
MANY = 60


@pytest.fixture(scope="module")
def outside():
    """The services that jobs ask."""
    with receiving(Provider) as receiver:
        receiver.say((200, b'{"court": "Here"}'))
        yield receiver


@pytest.fixture
def world(shop, outside, monkeypatch):
    outside.begin()
    shop.set(
        APP_PRIVATE_WEBHOOKS="yes",
        APP_CASES_URL=outside.url,
        APP_PAYMENTS_URL=f"{outside.url}/payments",
    )
    people = AlertSettings((outside.url.replace("http", "json"),))
    monkeypatch.setattr(
        tasks.app, "settings", dataclasses.replace(tasks.app.settings, alerts=people)
    )
    monkeypatch.setattr(catalog, "PAGE", 2)
    monkeypatch.setattr(events, "PAGE", 2)
    monkeypatch.setattr(imports, "CHUNK", 2)
    return SimpleNamespace(shop=shop, outside=outside, users=0)


def somebody(world, **others):
    world.users += 1
    return world.shop.user(f"Guest{world.users}", **others).id


def count(model, *where):
    with session() as db:
        return db.scalar(select(func.count()).select_from(model).where(*where))


def one(model, key):
    with session() as db:
        return db.get_one(model, key)


def mailed(user, template):
    """How often a user got a mail, by the mails that differ: a second copy of one has its
    Message-ID.
    """
    with session() as db:
        query = select(Mail).filter_by(user_id=user, template=template, state="sent")
        return len(db.scalars(query).all())


def there(path):
    return storage.disk("local").exists(path)


# --- each job: what it is about, and what has to be so when it has been done ----------------------
class Picture:
    task = images.process

    def __init__(self, world):
        storage.disk("local").put(path := f"{somebody(world)}.png", PICTURE)
        row = File(
            user_id=world.users,
            disk="local",
            path=path,
            original_name=path,
            mime="image/png",
            size=1,
        )
        self.args = (world.shop.add(row).id, {"a": 20, "b": 30})

    def check(self):
        with session() as db:
            versions = db.scalars(select(FileVersion).filter_by(file_id=self.args[0])).all()
        assert {row.name for row in versions} == {"a", "b"}
        assert all(storage.disk("local").size(row.path) == row.bytes for row in versions)
        assert one(File, self.args[0]).processed_at


class Mailed:
    task = email.send

    def __init__(self, world):
        self.args, self.folder = ("welcome", somebody(world)), world.shop

    def check(self):
        assert mailed(self.args[1], "welcome") == 1
        mine = [
            mail["Message-ID"]
            for mail in self.folder.mails
            if f"guest{self.args[1]}@" in mail["To"]
        ]
        assert len(set(mine)) == 1


class Made:
    task = reports.generate
    template = "document_ready"

    def __init__(self, world):
        self.user = somebody(world)
        self.args = (
            world.shop.add(Report(user_id=self.user, type="user-activity", format="csv")).id,
        )

    def check(self):
        row = one(Report, self.args[0])
        assert (row.state, storage.disk("local").size(row.path)) == ("completed", row.size)
        assert mailed(self.user, self.template) == 1


def event_of(world, guests=5, capacity=3):
    event = world.shop.add(
        Event(user_id=somebody(world), name="July", starts_at=now(), capacity=capacity)
    ).id
    with session() as db:
        db.add_all(
            Attendee(event_id=event, name=f"G{n}", email=f"g{n}@x.org") for n in range(guests)
        )
    return event


class Exported(Made):
    task = exports.attendees

    def __init__(self, world):
        event = event_of(world)
        self.user = world.users
        self.args = (world.shop.add(Export(user_id=self.user, event_id=event, format="csv")).id,)

    def check(self):
        row = one(Export, self.args[0])
        assert (row.state, storage.disk("local").size(row.path)) == ("completed", row.size)
        assert mailed(self.user, self.template) == 1


def import_of(world, rows):
    storage.disk("local").put(
        path := f"imports/{somebody(world)}.csv", b"name,email\n" + rows.encode()
    )
    return world.shop.add(
        Import(user_id=world.users, name="people.csv", disk="local", path=path)
    ).id


class Split:
    task = imports.users

    def __init__(self, world):
        self.args, self.queue = (
            (import_of(world, "".join(f"A,{n}\n" for n in range(5))),),
            world.shop.queue,
        )

    def check(self):
        mine = [batch for batch in self.queue.batches() if batch.id == f"import-{self.args[0]}"]
        assert {len(batch.members) for batch in mine} == {3}
        assert one(Import, self.args[0]).chunks == 3


class NoRows(Split):
    def __init__(self, world):
        self.args, self.user = (import_of(world, ""),), world.users

    def check(self):
        assert one(Import, self.args[0]).state == "completed"
        assert mailed(self.user, "import_done") == 1


class Chunk:
    task = imports.chunk

    def __init__(self, world):
        self.name = f"n{world.users}"
        number = import_of(world, f"A,{self.name}a@example.com\nB,{self.name}b@example.com\n")
        row = one(Import, number)
        self.args = (number, *next(imports.split(storage.disk("local").open(row.path))))

    def check(self):
        with session() as db:
            made = db.scalars(select(User.id).where(User.email.startswith(self.name))).all()
        assert len(made) == 2
        assert count(ImportRow, ImportRow.import_id == self.args[0], ImportRow.error.is_(None)) == 2
        assert [mailed(user, "welcome") for user in made] == [1, 1]


class Finished:
    task = imports.finish

    def __init__(self, world):
        self.args, self.user = (import_of(world, ""),), world.users

    def check(self):
        assert one(Import, self.args[0]).state == "completed"
        assert mailed(self.user, "import_done") == 1


class BatchDone:
    task = files.batch_done

    def __init__(self, world):
        world.shop.patch.setattr(
            tasks.app.batches, "find", lambda _: SimpleNamespace(completed=1, total=2, failed=1)
        )
        self.args = (f"batch{world.users}", somebody(world))

    def check(self):
        assert mailed(self.args[1], "files_done") == 1


class Delivered:
    task = webhooks.deliver

    def __init__(self, world):
        row = Webhook(
            user_id=somebody(world), url=world.outside.url, body="{}", pending_key=f"k{world.users}"
        )
        self.args, self.asked = (world.shop.add(row).id,), world.outside.asked

    def check(self):
        row = one(Webhook, self.args[0])
        assert (row.state, row.pending_key) == ("completed", None)
        assert f"msg_{row.id}" in {asked.headers.get("webhook-id") for asked in self.asked}


class Copied:
    task = catalog.copy_to_store

    def __init__(self, world):
        acme = world.shop.add(Distributor(name="Acme")).id
        with session() as db:
            db.add_all(
                Product(distributor_id=acme, sku=f"S{n}", name="P", price=1, stock=1)
                for n in range(5)
            )
        self.args = (
            world.shop.add(Store(user_id=somebody(world), distributor_id=acme, name="Corner")).id,
        )

    def check(self):
        assert (
            count(StoreProduct, StoreProduct.store_id == self.args[0])
            == one(Store, self.args[0]).copied
            == 5
        )
        assert one(Store, self.args[0]).copied_at


class Fetched:
    task = cases.fetch

    def __init__(self, world):
        self.args = (world.shop.add(Case(user_id=somebody(world), number=f"AZ {world.users}")).id,)

    def check(self):
        assert one(Case, self.args[0]).data["court"] == "Here"


class Processed:
    task = events.process

    def __init__(self, world):
        self.args = (event_of(world),)

    def check(self):
        event = one(Event, self.args[0])
        assert (event.statistics["confirmed"], event.statistics["waiting"]) == (3, 2)
        with session() as db:
            guests = db.scalars(
                select(Attendee).filter_by(event_id=event.id).order_by(Attendee.id)
            ).all()
        assert [guest.ticket is not None for guest in guests] == [True] * 3 + [False] * 2
        assert count(Export, Export.event_id == event.id) == 1
        assert mailed(event.user_id, "document_ready") == 1


def ordered(world, **said):
    acme = world.shop.add(Distributor(name="Acme")).id
    store = world.shop.add(Store(user_id=somebody(world), distributor_id=acme, name="Corner")).id
    product = world.shop.add(Product(distributor_id=acme, sku="S", name="P", price=1, stock=3)).id
    row = StoreProduct(store_id=store, product_id=product, sku="S", name="P", price=150, stock=3)
    sold = world.shop.add(row).id
    line = OrderLine(store_product_id=sold, quantity=2, price=150)
    order = Order(
        user_id=world.users, store_id=store, shipping="Ada\nHere", total=300, lines=[line], **said
    )
    return world.shop.add(order).id, sold


class Step:
    """A step of an order: its moment is there, what it does was done once."""

    before = MappingProxyType({})
    moment = ""
    left, template = 3, None

    def __init__(self, world):
        number, self.sold = ordered(world, **self.before)
        self.args, self.user, self.bank = (number,), world.users, world.outside

    @property
    def payment(self):
        return self.bank.payments[f"pi-{self.args[-1]}"]

    def check(self):
        assert getattr(one(Order, self.args[-1]), self.moment)
        assert one(StoreProduct, self.sold).stock == self.left
        if self.template:
            assert mailed(self.user, self.template) == 1


class Paid(Step):
    task, moment = orders.pay, "paid_at"

    def check(self):
        super().check()
        assert (self.payment.status, self.bank.taken) == (
            "succeeded",
            self.payment.amount * len(self.bank.payments),
        )


class Reserved(Step):
    task, moment, left = orders.reserve, "reserved_at", 1


class Confirmed(Step):
    task, moment, template = orders.confirm, "confirmed_at", "order_confirmed"


class Shipped(Step):
    task, moment = orders.ship, "shipped_at"


class Picked(Step):
    task, moment = orders.pick, "picked_at"


class Undone(Step):
    """Of an order that was paid, or of which nobody knows whether it was."""

    task, moment, left, template = orders.fail, "failed_at", 5, "order_failed"
    before = MappingProxyType({"paid_at": now(), "reserved_at": now()})
    found, leaves = "succeeded", "refunded"

    def __init__(self, world):
        super().__init__(world)
        reference = f"pi-{self.args[-1]}"
        with session() as db:
            db.get_one(Order, self.args[-1]).payment = reference
        self.bank.payments[reference] = Payment(reference, 300, self.found)

    def check(self):
        super().check()
        assert self.payment.status == self.leaves
        assert (one(Order, self.args[-1]).refunded_at is not None) == (self.leaves == "refunded")


class UndoneUnknown(Undone):
    before = MappingProxyType({"reserved_at": now()})


class UndoneUnpaid(UndoneUnknown):
    found, leaves = "open", "canceled"


class Cancelled(Undone):
    task = orders.ended

    def __init__(self, world):
        super().__init__(world)
        self.args = ("gone", *self.args)


class Daily:
    task, args = reports.system_daily, ()

    def __init__(self, world):
        self.user = somebody(world, admin=True)

    def check(self):
        assert (
            count(Report, Report.user_id == self.user) == mailed(self.user, "document_ready") == 1
        )


class Told:
    task, args = alerts.send, ("a job failed", "why")

    def __init__(self, world):
        self.asked = world.outside.asked

    def check(self):
        assert self.asked


class Expired:
    task, args = cleanup.documents, ()

    def __init__(self, world):
        storage.disk("local").put(path := f"reports/{somebody(world)}", b"x")
        row = Report(
            user_id=world.users, type="t", format="csv", disk="local", path=path, expires_at=now()
        )
        self.row, self.path = world.shop.add(row).id, path

    def check(self):
        assert (one(Report, self.row).path, there(self.path)) == (None, False)


class OldUpload:
    task, args = cleanup.uploads, ()

    def __init__(self, world):
        self.row = import_of(world, "")
        self.path = one(Import, self.row).path
        with session() as db:
            db.get_one(Import, self.row).finished_at = now() - timedelta(days=31)

    def check(self):
        assert (one(Import, self.row).path, there(self.path)) == ("", False)


class HalfWritten:
    task, args = cleanup.temporary_files, ()

    def __init__(self, world):
        storage.disk("local").put("x", b"")
        self.path = world.shop.folder / "files" / ".x.part"
        self.path.touch()
        os.utime(self.path, (0, 0))

    def check(self):
        assert not self.path.exists()


class OldRecords:
    task, args = cleanup.records, ()

    def __init__(self, world):
        ended = now() - timedelta(days=31)
        row = Token(
            user_id=somebody(world), name="t", hash=f"{world.users}", abilities=[], expires_at=ended
        )
        self.row = world.shop.add(row).id

    def check(self):
        assert count(Token, Token.id == self.row) == 0


class OldBatches:
    task, args = cleanup.batches, ()

    def __init__(self, world):
        self.world = world

    def check(self):
        assert tasks.app.batches.page() == []


class OldFailures(OldBatches):
    task, args = cleanup.failed_jobs, ()


STORIES = [
    Picture,
    Mailed,
    Made,
    Exported,
    Split,
    NoRows,
    Chunk,
    Finished,
    BatchDone,
    Delivered,
    Copied,
    Fetched,
    Processed,
    Paid,
    Reserved,
    Confirmed,
    Shipped,
    Picked,
    Undone,
    UndoneUnknown,
    UndoneUnpaid,
    Cancelled,
    Daily,
    Told,
    Expired,
    OldUpload,
    HalfWritten,
    OldRecords,
    OldBatches,
    OldFailures,
]
#: These have no effect of their own, or only log.
WITHOUT_EFFECT = {"files.all_processed", "files.first_failed", "email.send_marketing"}


def test_every_job_of_the_application_is_here():
    own = {
        name
        for name, task in tasks.app.tasks.items()
        if task.__module__.partition(".")[0] == "tasks"
    }
    assert own - WITHOUT_EFFECT == {story.task.name for story in STORIES}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: f"{story.task.name}-{story.__name__}")
def test_a_job_killed_at_any_moment_and_run_again_has_run_once(world, story):
    queue = world.shop.queue
    with mortal(world.shop.patch) as life:
        for moment in range(1, MANY):
            about = story(world)
            life.dies_at(moment)
            try:
                queue.job(story.task, about.args, task_id=f"job-{moment}")
            except Died:
                died = True
            else:
                died = False
            life.dies_at(0)
            if died:
                queue.job(story.task, about.args, task_id=f"job-{moment}").assert_completed()
            queue.drain(including_delayed=True)
            about.check()
            if not died:
                return
    pytest.fail(f"{story.task.name} has more than {MANY} moments")
