"""The application's stories with real workers: requested over HTTP, done by a prefork pool,
reported by mail.

They run on SQLite alone, and on PostgreSQL with Redis as the broker. The stories share a company;
those that kill its worker come last.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import httpx
import pytest
from standardwebhooks.webhooks import Webhook as Verifier

from app.models import Distributor, Product, StoreProduct, session
from tests.support.company import Company, company, own_database
from tests.support.pictures import saved, scene
from tests.support.waits import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

PICTURE = saved(scene(300, 200)).getvalue()


@pytest.fixture(scope="module", params=["sqlite", "postgresql and redis"])
def firm(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp("company")
    if request.param == "sqlite":
        with company(
            folder, f"sqlite:///{folder}/relevo.db", QUEUE_CONNECTION="database"
        ) as opened:
            yield opened
        return
    redis = request.getfixturevalue("redis_url").rpartition("/")[0] + "/7"
    with (
        own_database(request.getfixturevalue("postgresql_url"), "company") as database,
        company(folder, database, REDIS_URL=redis, QUEUE_CONNECTION="redis") as opened,
    ):
        yield opened


def asked(firm: Company, path: str) -> list:
    return [one for one in firm.outside.asked if one.path.startswith(path)]


def test_a_picture_is_uploaded_processed_and_fetched_with_a_batch_that_has_a_broken_one(firm):
    one = firm.upload("one.jpg", PICTURE)
    firm.post(f"/api/process-image/{one}", json={"sizes": {"icon": 64, "small": 100}})
    ids = [
        firm.upload(f"{n}.jpg", data) for n, data in enumerate([PICTURE, PICTURE, PICTURE[:2000]])
    ]
    batch = firm.post("/api/batch-process-files", json={"file_ids": ids, "sizes": {"icon": 64}})[
        "id"
    ]

    told = firm.until(f"/api/files/{one}", lambda row: row["processed_at"])
    assert {row["name"]: row["width"] for row in told["versions"]} == {"icon": 64, "small": 100}
    for version in told["versions"]:
        assert len(httpx.get(version["link"]).content) == version["bytes"]
    assert firm.client.get(f"/api/files/{one}/versions/original").content == PICTURE

    told = firm.until(f"/api/batch/{batch}/status", lambda status: status["finished"])
    assert (told["total"], told["processed"], told["pending"], told["failed"], told["percent"]) == (
        3,
        3,
        0,
        1,
        100,
    )
    firm.until_mailed("2 of 3 files processed")


def test_links_to_a_report_and_an_export_come_by_mail_and_expire(firm):
    firm.post("/api/generate-report", json={"type": "system-health", "format": "pdf"})
    given = {"name": "July", "starts_at": "2030-07-01T10:00:00Z", "capacity": 1}
    event = firm.post("/api/events", json=given)["id"]
    for name in "AB":
        firm.post(f"/api/events/{event}/attendees", json={"name": name, "email": f"{name}@x.org"})
    firm.post(f"/api/events/{event}/process")
    told = firm.until(f"/api/events/{event}", lambda row: row["processed_at"])
    assert told["statistics"] == {
        "attendees": 2,
        "confirmed": 1,
        "waiting": 1,
        "capacity": 1,
        "full": True,
    }
    for subject, begins in (
        ("Your system-health report is ready", b"%PDF-"),
        ("Your export of attendees is ready", b"PK"),
    ):
        link = firm.mailed_link(subject)
        assert httpx.get(link).content.startswith(begins)
        refused = httpx.get(firm.expired(link))
        assert (refused.status_code, "has expired" in refused.text) == (403, True)


def test_a_webhook_is_delivered_signed(firm):
    said = firm.post(
        "/api/webhooks", json={"url": f"{firm.outside.url}/hook", "body": {"event": "paid"}}
    )
    firm.until(
        "/api/webhooks", lambda page: page["items"] and page["items"][0]["state"] == "completed"
    )
    [one] = asked(firm, "/hook")
    secret = firm.client.get("/api/webhook-secret").json()["secret"]
    assert Verifier(secret).verify(one.body, one.headers) == {"event": "paid"}
    [line] = firm.client.get(f"/api/webhooks/{said['id']}/deliveries").json()["items"]
    assert (line["status"], line["attempt"]) == (200, 1)


def test_a_store_gets_its_catalogue_and_an_order_goes_through_its_steps(firm):
    with session(firm.environment["DATABASE_URL"]) as db:
        acme = Distributor(name="Acme")
        db.add(acme)
        db.flush()
        db.add_all(
            Product(distributor_id=acme.id, sku=f"S{n}", name=f"P{n}", price=n, stock=9)
            for n in range(2500)
        )
    store = firm.post("/api/stores", json={"distributor_id": acme.id, "name": "Corner"})["id"]
    assert firm.until(f"/api/stores/{store}", lambda row: row["copied_at"])["copied"] == 2500

    firm.outside.say((200, b'{"reference": "ch7"}'))
    product = firm.client.get(f"/api/stores/{store}/products?limit=1&after=1").json()["items"][0][
        "id"
    ]
    given = {
        "store_id": store,
        "lines": [{"product_id": product, "quantity": 2}],
        "shipping": "Ada\nHere",
    }
    order = firm.post("/api/orders", json=given)["id"]
    told = firm.until(f"/api/orders/{order}", lambda row: row["picked_at"])
    assert (told["payment"], told["failed_at"]) == ("ch7", None)
    assert (
        told["paid_at"]
        <= told["reserved_at"]
        <= told["confirmed_at"]
        <= told["shipped_at"]
        <= told["picked_at"]
    )
    firm.until_mailed(f"Your order {order} is confirmed")
    with session(firm.environment["DATABASE_URL"]) as db:
        assert db.get_one(StoreProduct, product).stock == 7

    over = firm.post(
        "/api/orders", json={**given, "lines": [{"product_id": product, "quantity": 8}]}
    )["id"]
    told = firm.until(f"/api/orders/{over}", lambda row: row["refunded_at"])
    assert (told["reserved_at"], "out of stock" in told["error"]) == (None, True)
    firm.until_mailed(f"Your order {over} could not be taken")
    assert asked(firm, "/payments/ch7/refunds")


# --- its worker is killed -------------------------------------------------------------------------
def test_a_case_and_a_webhook_whose_worker_is_killed_while_they_ask_are_done_by_the_next(firm):
    firm.outside.say((200, b'{"court": "Here"}'))
    with firm.outside.held():
        case = firm.post("/api/cases", json={"number": "AZ 7/24"})["id"]
        hook = firm.post(
            "/api/webhooks", json={"url": f"{firm.outside.url}/killed", "body": {"n": 1}}
        )["id"]
        eventually(lambda: asked(firm, "/cases") and asked(firm, "/killed"), firm.logs)
        firm.kill_worker()
    assert firm.until(f"/api/cases/{case}", lambda row: row["data"])["data"] == {"court": "Here"}
    firm.until(
        "/api/webhooks",
        lambda page: {row["id"]: row["state"] for row in page["items"]}[hook] == "completed",
    )
    assert {one.headers["webhook-id"] for one in asked(firm, "/killed")} == {f"msg_{hook}"}
    lines = firm.client.get(f"/api/webhooks/{hook}/deliveries").json()["items"]
    assert [line["status"] for line in lines] == [
        200
    ]  # the first was cut off before it could write its line


def test_an_import_with_bad_rows_whose_worker_is_killed_in_its_midst_is_whole_in_the_end(firm):
    rows = 2000
    text = io.StringIO()
    text.write("name,email\n")
    for number in range(rows):
        text.write(f"Guest {number},{f'g{number}@example.com' if number % 100 == 0 else 'bad'}\n")
    said = firm.post(
        "/api/imports", params={"name": "guests.csv"}, content=text.getvalue().encode()
    )
    path = f"/api/imports/{said['id']}"
    firm.until(f"{path}/rows?limit=1", lambda page: page["items"])  # a chunk is done, others aren't
    firm.kill_worker()
    told = firm.until(path, lambda row: row["state"] == "completed")
    assert (told["good"], told["bad"], told["chunks"]) == (rows // 100, rows - rows // 100, 4)
    eventually(
        lambda: sum("Welcome" in subject for subject in firm.subjects()) == rows // 100, firm.logs
    )
    firm.until_mailed(f"Import guests.csv: {told['good']} good, {told['bad']} bad")
    bad = firm.client.get(f"{path}/rows?bad=true&limit=1").json()["items"][0]
    assert "expected an address, got 'bad'" in bad["error"]
