"""The HTTP API over a real server: each route's good answer, and everything that is refused."""

from __future__ import annotations

import errno
import json
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace

import httpx
import pytest
from sqlalchemy import func, select

from app.models import (
    Answer,
    Case,
    Distributor,
    Event,
    Export,
    File,
    Import,
    Order,
    RequestCount,
    Store,
    StoreProduct,
    Token,
    session,
)
from app.models.base import now
from tasks import cases, catalog, email, events, exports, images, imports, orders, reports, webhooks
from tests.support.catalog import stock
from tests.support.pictures import saved, scene
from tests.support.waits import LONG
from web import access, request_counts
from web.access import new_token
from web.schemas import RequestBody

PNG = saved(scene(40, 30), "PNG").getvalue()


@pytest.fixture
def ada(shop):
    return shop.user("Ada", password=access.password_hash("correct horse battery"))


def client_of(server, user, abilities=("*",), days=30):
    token, _ = new_token(user.id, "test", list(abilities), days)
    return httpx.Client(
        base_url=server, headers={"Authorization": f"Bearer {token}"}, timeout=LONG, verify=False
    )


@pytest.fixture
def one_minute(shop):
    """The minute in which requests are counted doesn't end during the test."""
    shop.patch.setattr(access, "clock", SimpleNamespace(now=lambda: 1_000_000.0))


@pytest.fixture
def api(server, ada):
    with client_of(server, ada) as client:
        yield client


@pytest.fixture
def admin(server, shop):
    with client_of(server, shop.user("Root", admin=True)) as client:
        yield client


@pytest.fixture
def nobody(server, shop):
    with httpx.Client(base_url=server, timeout=LONG, verify=False) as client:
        yield client


def problem(answer, status, told=""):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert told in answer.text
    return answer.json()


def accepted(answer):
    assert answer.status_code == 202, answer.text
    return answer.json()


def uploaded(api, data=PNG, name="cat.png"):
    answer = api.post("/api/files", params={"name": name}, content=data)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


# --- who is asking --------------------------------------------------------------------------------
def test_a_login_gives_a_token_that_works_until_it_is_revoked(nobody, ada):
    given = {
        "email": "ADA@example.com",
        "password": "correct horse battery",
        "abilities": ["tokens"],
        "days": 1,
    }
    made = nobody.post("/api/tokens", json=given).json()
    auth = {"Authorization": f"Bearer {made['token']}"}
    (listed,) = nobody.get("/api/tokens", headers=auth).json()["items"]
    assert listed["abilities"] == ["tokens"]
    assert made["token"] not in json.dumps(listed)
    problem(nobody.get("/api/files", headers=auth), 403, "lacks the ability 'files'")
    assert nobody.delete(f"/api/tokens/{made['id']}", headers=auth).status_code == 204
    problem(nobody.get("/api/tokens", headers=auth), 401)


def test_the_token_is_kept_as_its_hash(nobody, ada):
    given = {"email": "ada@example.com", "password": "correct horse battery"}
    token = nobody.post("/api/tokens", json=given).json()["token"]
    with session() as db:
        assert db.scalars(select(Token.hash)).all() == [access.hash_token(token)]


@pytest.mark.parametrize(
    "given", [("ada@example.com", "wrong"), ("nobody@example.com", "correct horse battery")]
)
def test_a_wrong_login_is_a_401_and_ten_a_minute_are_enough(nobody, ada, one_minute, given):
    problem(
        nobody.post("/api/tokens", json=dict(zip(("email", "password"), given, strict=True))), 401
    )
    access_limit = access.LOGINS_A_MINUTE
    try:
        access.LOGINS_A_MINUTE = 1
        problem(
            nobody.post("/api/tokens", json=dict(zip(("email", "password"), given, strict=True))),
            429,
        )
    finally:
        access.LOGINS_A_MINUTE = access_limit


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer nonsense", "Basic YTpi", "Bearer rlv_é".encode()]
)
def test_without_a_good_token_it_is_a_401(nobody, header):
    answer = nobody.get("/api/files", headers={} if header is None else {"Authorization": header})
    problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_an_expired_token_is_refused(server, shop, ada):
    client = client_of(server, ada)
    with session() as db:
        db.scalars(select(Token)).one().expires_at = now() - timedelta(seconds=1)
    problem(client.get("/api/files"), 401, "expired")


def test_a_token_has_a_limit_of_requests_a_minute(shop, api, one_minute):
    shop.set(APP_REQUESTS_A_MINUTE="3")
    answers = [api.get("/api/files") for _ in range(4)]
    assert [answer.status_code for answer in answers[:3]] == [200] * 3
    problem(answers[3], 429, "more than 3 requests")
    assert 0 < int(answers[3].headers["retry-after"]) <= 60


def test_requests_are_counted_for_all_processes_without_a_write_of_each(shop, api, one_minute):
    shop.set(APP_REQUESTS_A_MINUTE="5")
    for _ in range(2):
        assert api.get("/api/files").status_code == 200
    request_counts.flush()
    with session() as db:
        row = db.scalars(select(RequestCount)).one()
        assert row.requests == 2
        row.requests += 2  # another process's
    assert api.get("/api/files").status_code == 200
    request_counts.flush()
    with session() as db:
        assert db.scalars(select(RequestCount.requests)).one() == 5
    problem(api.get("/api/files"), 429)


# --- files ----------------------------------------------------------------------------------------
def test_a_picture_is_uploaded_processed_and_fetched(shop, api):
    number = uploaded(api)
    said = accepted(api.post(f"/api/process-image/{number}", json={"sizes": {"icon": 16}}))
    assert (said["file"], said["queue"]) == (number, "default")
    assert shop.queue.assert_dispatched_once(images.process).id == said["job"]
    shop.queue.drain()
    (version,) = api.get(f"/api/files/{number}").json()["versions"]
    assert (version["name"], version["width"]) == ("icon", 16)
    assert api.get(f"/api/files/{number}/versions/original").content == PNG
    link = version["link"].removeprefix("http://127.0.0.1:8000")
    fetched = httpx.get(str(api.base_url) + link)
    assert fetched.content == api.get(f"/api/files/{number}/versions/icon").content
    assert fetched.headers["content-disposition"].startswith("attachment")
    problem(httpx.get(str(api.base_url) + link.replace("icon", "large")), 403, "changed")
    problem(api.post(f"/api/process-image/{number}"), 400, "processed already")
    problem(api.get(f"/api/files/{number}/versions/none"), 404)


@pytest.mark.parametrize(
    ("asked", "status", "part", "said"),
    [
        ("bytes=0-9", 206, slice(0, 10), "bytes 0-9/{size}"),
        ("bytes=10-", 206, slice(10, None), "bytes 10-{last}/{size}"),
        ("bytes=-5", 206, slice(-5, None), None),
        ("bytes=5-99999999", 206, slice(5, None), None),
        ("bytes=-99999999", 206, slice(0, None), "bytes 0-{last}/{size}"),
        ("bytes=0-1,5-6", 200, slice(0, None), None),
        ("lines=0-1", 200, slice(0, None), None),
        ("bytes=9-5", 200, slice(0, None), None),
        ("bytes=-", 200, slice(0, None), None),
    ],
)
def test_a_download_can_be_resumed(api, asked, status, part, said):
    number = uploaded(api)
    answer = api.get(f"/api/files/{number}/versions/original", headers={"Range": asked})
    assert (answer.status_code, answer.content, answer.headers["accept-ranges"]) == (
        status,
        PNG[part],
        "bytes",
    )
    assert int(answer.headers["content-length"]) == len(PNG[part])
    if said:
        assert answer.headers["content-range"] == said.format(size=len(PNG), last=len(PNG) - 1)


def test_a_missing_range_is_refused_and_a_range_of_another_file_gets_the_whole(api):
    path = f"/api/files/{uploaded(api)}/versions/original"
    for asked in (f"bytes={len(PNG)}-", "bytes=-0", "bytes=99999999-999999999"):
        answer = api.get(path, headers={"Range": asked})
        problem(answer, 416, f"{len(PNG):,} bytes")
        assert answer.headers["content-range"] == f"bytes */{len(PNG)}"
    tag = api.head(path).headers["etag"]
    assert api.head(path).headers["content-length"] == str(len(PNG))
    assert api.get(path, headers={"Range": "bytes=1-2", "If-Range": tag}).content == PNG[1:3]
    assert api.get(path, headers={"Range": "bytes=1-2", "If-Range": '"other"'}).content == PNG


def test_a_file_that_can_not_be_processed_is_refused(server, shop, api):
    text = uploaded(api, b"hello", "notes.txt")
    problem(api.post(f"/api/process-image/{text}"), 400, "no image but text/plain")
    problem(api.post("/api/process-image/999"), 404, "no file 999")
    picture = uploaded(api)
    for sizes in ({}, {"a": 0}, {"A": 5}, {"a": "x"}, {"../x": 5}, [], {"a": 10**9}):
        problem(api.post(f"/api/process-image/{picture}", json={"sizes": sizes}), 422)
    with client_of(server, shop.user("Bob")) as bob:
        problem(bob.post(f"/api/process-image/{picture}"), 403, "another user's")
        problem(bob.get(f"/api/files/{picture}"), 403)
    shop.queue.assert_nothing_dispatched()


def test_an_upload_that_is_cut_off_leaves_nothing(shop, api):
    head = (
        "POST /api/files?name=cut.png HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: {api.headers['authorization']}\r\n"
    )
    for rest in (
        "Content-Length: 5000000\r\n\r\n" + "x" * 1_500_000,
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ):
        with socket.create_connection((api.base_url.host, api.base_url.port)) as cut:
            cut.sendall((head + rest).encode())
    uploaded(api)  # behind them
    assert [item["original_name"] for item in api.get("/api/files").json()["items"]] == ["cat.png"]
    assert len([path for path in (shop.folder / "files").rglob("*") if path.is_file()]) == 1


def test_an_original_is_saved_under_its_own_name(api):
    number = uploaded(api, name="../Größe\n.png")
    told = api.get(f"/api/files/{number}/versions/original").headers["content-disposition"]
    assert told == "attachment; filename*=UTF-8''..%2FGr%C3%B6%C3%9Fe.png"


def test_every_body_has_a_valid_example():
    for model in RequestBody.__subclasses__():
        (said,) = model.model_json_schema()["examples"]
        model.model_validate(said)


def test_an_upload_that_is_too_large_empty_or_nameless_leaves_nothing(shop, api):
    shop.set(APP_UPLOAD_LIMIT="1000")
    problem(
        api.post("/api/files", params={"name": "x"}, content=b"x" * 1001),
        413,
        "at most 1,000 bytes",
    )
    problem(api.post("/api/files", params={"name": "x"}, content=b""), 400)
    problem(api.post("/api/files", content=b"x"), 422, "name")
    assert api.get("/api/files").json() == {"items": [], "next": None}
    assert not (shop.folder / "files").exists()
    assert uploaded(api, b"x", "../../etc/passwd\0.png")
    assert all(
        path.is_relative_to(shop.folder / "files") for path in (shop.folder / "files").rglob("*")
    )


def test_a_list_comes_in_pages(api):
    numbers = [uploaded(api, b"x", f"{n}.txt") for n in range(5)]
    seen, after = [], None
    for _ in range(3):
        page = api.get(
            "/api/files", params={"limit": 2} | ({"after": after} if after else {})
        ).json()
        seen += [item["id"] for item in page["items"]]
        after = page["next"]
    assert (seen, after) == (numbers, None)
    for limit in (0, 201, "x"):
        problem(api.get("/api/files", params={"limit": limit}), 422, "limit")


@pytest.mark.parametrize(
    ("ids", "status"),
    [([], 422), (list(range(1, 52)), 422), (["x"], 422), ([999], 400), (None, 422), ([-1], 422)],
)
def test_a_batch_of_no_or_too_many_or_foreign_files_is_refused(api, ids, status):
    problem(api.post("/api/batch-process-files", json={"file_ids": ids}), status)
    problem(api.get("/api/batch/nothing/status"), 404)


# --- mail, webhooks -------------------------------------------------------------------------------
def test_a_notification_is_sent_now_or_later(shop, api):
    accepted(api.post("/api/send-notification", json={"subject": "Hello", "message": "World"}))
    accepted(
        api.post(
            "/api/send-notification",
            json={"subject": "L", "message": "W", "template": "announcement", "delay_minutes": 5},
        )
    )
    shop.queue.assert_dispatched_delayed(email.send_marketing, 300)
    shop.queue.drain()
    assert shop.subjects == ["Hello"]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 256}, "subject"),
        ({"subject": "a\nBcc: b"}, "subject"),
        ({"message": "x" * 1001}, "message"),
        ({"message": None}, "message"),
        ({"template": "secret"}, "template"),
        ({"delay_minutes": -1}, "delay_minutes"),
        ({"delay_minutes": 1441}, "delay_minutes"),
        ({"delay_minutes": "soon"}, "delay_minutes"),
        ({"cc": "x"}, "cc"),
    ],
)
def test_an_invalid_field_is_named(shop, api, changed, field):
    told = problem(
        api.post("/api/send-notification", json={"subject": "s", "message": "m", **changed}), 422
    )
    assert [error["field"] for error in told["errors"]] == [field]
    shop.queue.assert_nothing_dispatched()


def test_a_huge_or_deeply_nested_body_or_an_invalid_number_is_refused(shop, api):
    json_ = {"Content-Type": "application/json"}
    problem(
        api.post("/api/cases", content=b'{"number": "' + b"x" * 1_100_000, headers=json_),
        413,
        "at most 1,048,576",
    )
    for body in (b"[" * 100_000, b'{"number": ' + b"9" * 5000 + b"}"):
        problem(api.post("/api/cases", content=body, headers=json_), 400)
    hook = b'{"url": "http://example.com", "body": {"a": NaN}}'
    problem(api.post("/api/webhooks", content=hook, headers=json_), 422)
    shop.queue.assert_nothing_dispatched()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"'])
def test_a_body_that_is_no_json_object_is_a_422(api, body):
    problem(
        api.post(
            "/api/send-notification", content=body, headers={"Content-Type": "application/json"}
        ),
        422,
    )


def test_a_webhook_is_accepted_delivered_and_its_log_shown(shop, api, receiver):
    shop.set(APP_PRIVATE_WEBHOOKS="yes")
    said = accepted(api.post("/api/webhooks", json={"url": receiver.url, "body": {"a": 1}}))
    shop.queue.assert_dispatched_on("webhooks", webhooks.deliver)
    shop.queue.drain()
    assert api.get(f"/api/webhooks/{said['id']}/deliveries").json()["items"][0]["status"] == 200
    assert api.get("/api/webhooks").json()["items"][0]["state"] == "completed"
    assert api.get("/api/webhook-secret").json()["secret"].startswith("whsec_")
    problem(api.post("/api/webhooks", json={"url": "ftp://example.com", "body": {}}), 422)
    problem(api.post("/api/webhooks", json={"url": receiver.url, "body": {"x": "y" * 60_000}}), 422)


# --- documents ------------------------------------------------------------------------------------
def test_a_report_is_asked_for_made_and_fetched(shop, api):
    said = accepted(
        api.post("/api/generate-report", json={"type": "user-activity", "format": "csv"})
    )
    assert shop.queue.assert_dispatched_once(reports.generate).id == said["job"]
    assert api.get(f"/api/reports/{said['id']}").json()["link"] is None
    shop.queue.drain()
    told = api.get(f"/api/reports/{said['id']}").json()
    assert told["state"] == "completed"
    assert (
        b"ada@example.com"
        in httpx.get(str(api.base_url) + told["link"].removeprefix("http://127.0.0.1:8000")).content
    )
    assert api.get("/api/reports").json()["items"][0]["type"] == "user-activity"


@pytest.mark.parametrize(
    "given",
    [
        {"type": "weather"},
        {"type": "user-activity", "format": "doc"},
        {},
        {"type": ["user-activity"]},
    ],
)
def test_a_report_of_an_unknown_type_or_format_is_refused(api, given):
    problem(api.post("/api/generate-report", json=given), 422)


def test_users_are_created_and_imported_by_administrators(shop, api, admin):
    made = admin.post(
        "/api/users",
        json={"name": "Zoë", "email": "Zoe@Example.com", "password": "long enough, really"},
    )
    assert (made.status_code, made.json()["email"]) == (201, "zoe@example.com")
    problem(admin.post("/api/users", json={"name": "Z", "email": "zoe@example.com"}), 409)
    problem(
        admin.post("/api/users", json={"name": "Z", "email": "z@example.com", "password": "short"}),
        422,
        "password",
    )
    problem(
        admin.post("/api/users", json={"name": "Z", "email": "nobody", "admin": True}), 422, "admin"
    )
    problem(
        api.post("/api/users", json={"name": "Z", "email": "z@example.com"}), 403, "administrators"
    )
    shop.queue.drain()
    assert shop.subjects == ["Welcome, Zoë"]
    problem(api.post("/api/imports", params={"name": "a.csv"}, content=b"x"), 403)
    said = accepted(admin.post("/api/imports", params={"name": "a.csv"}, content=b"name,email\n"))
    assert shop.queue.assert_dispatched_once(imports.users).id == said["job"]
    shop.queue.drain()
    assert admin.get(f"/api/imports/{said['id']}").json()["state"] == "completed"
    assert admin.get(f"/api/imports/{said['id']}/rows", params={"bad": True}).json()["items"] == []
    assert shop.row(Import, said["id"]).job_id == said["job"]
    with session() as db:
        assert db.scalar(select(func.count()).select_from(File)) == 0


# --- events, stores, orders, cases ----------------------------------------------------------------
def test_an_event_is_created_processed_and_exported(shop, api):
    event = api.post(
        "/api/events",
        json={"name": "July", "starts_at": "2030-07-01T10:00:00+02:00", "capacity": 1},
    ).json()["id"]
    for name in "AB":
        assert (
            api.post(
                f"/api/events/{event}/attendees", json={"name": name, "email": f"{name}@x.org"}
            ).status_code
            == 201
        )
    problem(api.post(f"/api/events/{event}/attendees", json={"name": "A", "email": "a@x.org"}), 409)
    accepted(api.post(f"/api/events/{event}/process"))
    shop.queue.assert_dispatched(events.process)
    said = accepted(api.post(f"/api/events/{event}/exports", json={"format": "csv"}))
    shop.queue.assert_dispatched(exports.attendees)
    shop.queue.drain()
    assert api.get(f"/api/events/{event}").json()["statistics"]["waiting"] == 1
    assert [one["state"] for one in api.get(f"/api/events/{event}/attendees").json()["items"]] == [
        "confirmed",
        "waiting",
    ]
    assert api.get(f"/api/exports/{said['id']}").json()["link"]
    assert shop.row(Export, said["id"]).event_id == shop.row(Event, event).id
    problem(api.post("/api/events", json={"name": "x", "starts_at": "soon", "capacity": 0}), 422)
    for edge in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"):
        problem(
            api.post("/api/events", json={"name": "x", "starts_at": edge, "capacity": 1}),
            422,
            "a date in UTC",
        )


def test_a_store_gets_its_catalogue_and_takes_orders(shop, api):
    acme = shop.add(Distributor(name="Acme")).id
    store = accepted(api.post("/api/stores", json={"distributor_id": acme, "name": "Corner"}))["id"]
    shop.queue.assert_dispatched_once(catalog.copy_to_store)
    problem(api.post("/api/stores", json={"distributor_id": 999, "name": "x"}), 404)
    stock(acme, 3)
    shop.queue.drain()
    assert api.get(f"/api/stores/{store}").json()["copied"] == 3
    product = api.get(f"/api/stores/{store}/products").json()["items"][2]["id"]
    given = {
        "store_id": store,
        "lines": [{"product_id": product, "quantity": 2}],
        "shipping": "Here",
    }
    said = accepted(api.post("/api/orders", json=given))
    shop.queue.assert_dispatched(orders.pay)
    shop.queue.drain()
    assert api.get(f"/api/orders/{said['id']}").json()["shipped_at"]
    assert shop.row(StoreProduct, product).stock == 3
    problem(api.post("/api/orders", json={**given, "lines": given["lines"] * 2}), 422, "once")
    problem(api.post("/api/orders", json={**given, "store_id": 999}), 400)
    with session() as db:
        assert db.scalar(select(func.count()).select_from(Order)) == 1
    assert shop.row(Store, store).copied_at is not None


def test_a_case_is_accepted_before_its_data_is_there(shop, api, receiver):
    shop.set(APP_CASES_URL=receiver.url)
    receiver.say((200, b'{"court": "Here"}'))
    said = accepted(api.post("/api/cases", json={"number": "AZ 7/24"}))
    assert (receiver.asked, shop.row(Case, said["id"]).data) == ([], None)
    shop.queue.assert_dispatched_on("high", cases.fetch)
    shop.queue.drain()
    assert api.get(f"/api/cases/{said['id']}").json()["data"] == {"court": "Here"}
    problem(api.post("/api/cases", json={"number": "AZ 7/24"}), 409)


def test_rows_of_another_user_are_not_shown(server, shop, api, admin):
    report = accepted(api.post("/api/generate-report", json={"type": "user-activity"}))["id"]
    event = api.post(
        "/api/events", json={"name": "J", "starts_at": "2030-07-01T10:00:00Z", "capacity": 1}
    ).json()["id"]
    with client_of(server, shop.user("Bob")) as bob:
        for path in (
            f"/api/reports/{report}",
            f"/api/events/{event}",
            f"/api/events/{event}/attendees",
        ):
            problem(bob.get(path), 403, "another user's")
        for path in (f"/api/events/{event}/process", f"/api/events/{event}/exports"):
            problem(bob.post(path), 403)
        assert bob.get("/api/reports").json()["items"] == []
    assert admin.get(f"/api/reports/{report}").status_code == 200


# --- idempotency, queues, health ------------------------------------------------------------------
def test_a_post_with_a_key_is_done_once(shop, api):
    def ask(key="k-1", type_="user-activity"):
        return api.post(
            "/api/generate-report", json={"type": type_}, headers={"Idempotency-Key": key}
        )

    first, again = ask(), ask()
    assert first.json() == again.json()
    assert (first.status_code, again.status_code, again.headers["idempotency-replayed"]) == (
        202,
        202,
        "true",
    )
    shop.queue.assert_dispatched_once(reports.generate)
    problem(ask(type_="file-statistics"), 422, "another request")
    assert ask("k-2").json() != first.json()
    problem(ask("k" * 65), 422)
    problem(ask("k-3", "weather"), 422)
    assert accepted(ask("k-3"))


def test_two_concurrent_posts_with_one_key_are_done_once(shop, api):
    with ThreadPoolExecutor(4) as pool:
        asked = list(
            pool.map(
                lambda _: api.post(
                    "/api/generate-report",
                    json={"type": "user-activity"},
                    headers={"Idempotency-Key": "k"},
                ),
                range(4),
            )
        )
    assert {answer.status_code for answer in asked} == {202}
    assert len({answer.text.replace(" ", "") for answer in asked}) == 1
    shop.queue.assert_dispatched_once(reports.generate)


def test_an_answer_is_committed_with_its_rows_and_belongs_to_its_url(shop, api):
    keyed = {"Idempotency-Key": "k"}
    assert (
        api.post("/api/files", params={"name": "a.png"}, content=PNG, headers=keyed).status_code
        == 201
    )
    problem(
        api.post("/api/files", params={"name": "b.png"}, content=PNG, headers=keyed),
        422,
        "another request",
    )
    with session() as db:
        row = db.scalars(select(Answer)).one()
    assert (row.status, json.loads(row.body)["name"]) == (201, "a.png")


def test_a_kept_answer_needs_a_token_with_the_ability(server, shop, ada, api):
    given = {"url": "/api/cases", "json": {"number": "1"}, "headers": {"Idempotency-Key": "k"}}
    accepted(api.post(**given))
    with client_of(server, ada, ["files"]) as other:
        problem(other.post(**given), 403, "lacks the ability")
    with client_of(server, shop.user("Bob")) as bob:
        assert "idempotency-replayed" not in bob.post(**given).headers


def test_the_queues_and_failed_jobs_are_for_administrators(shop, api, admin):
    problem(api.get("/api/queues"), 403)
    assert {"critical", "default"} <= {row["queue"] for row in admin.get("/api/queues").json()}
    assert admin.get("/api/failed").json() == {"items": [], "next": None}
    for answer in (
        admin.get("/api/failed/7"),
        admin.post("/api/failed/7/retry"),
        admin.delete("/api/failed/7"),
    ):
        problem(answer, 404, "no failed job 7")
    assert admin.post("/api/failed/retry").json() == {"jobs": 0}
    assert admin.delete("/api/failed", params={"hours": 1}).json() == {"jobs": 0}
    problem(admin.delete("/api/failed", params={"hours": "nan"}), 422)


def test_health_and_readiness_need_no_token(nobody, shop):
    assert nobody.get("/health").json() == nobody.get("/ready").json() == {"status": "ok"}
    assert nobody.get("/openapi.json").json()["info"]["title"] == "Relevo"
    problem(nobody.get("/nowhere"), 404)
    problem(nobody.put("/api/files"), 405)


def test_every_route_under_api_but_the_login_needs_a_token(nobody):
    for path, methods in nobody.get("/openapi.json").json()["paths"].items():
        for method in methods:
            if path.startswith("/api/") and (path, method) != ("/api/tokens", "post"):
                filled = path.replace("{batch_id}", "x").replace("{name}", "x")
                filled = (
                    filled
                    if "{" not in filled
                    else filled[: filled.index("{")] + "1" + filled[filled.index("}") + 1 :]
                )
                problem(nobody.request(method, filled), 401)


def test_a_full_disk_during_an_upload_is_an_error_and_the_upload_can_be_repeated(
    api, shop, monkeypatch
):
    """It was an error 500: only the files' own disk had been thought of, not the folder of
    temporary files.
    """

    class Full(tempfile.SpooledTemporaryFile):
        def write(self, _data):
            raise OSError(errno.ENOSPC, "No space left on device")

    said = {"params": {"name": "a.txt"}, "content": b"abc", "headers": {"Idempotency-Key": "full"}}
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "SpooledTemporaryFile", Full)
        answer = api.post("/api/files", **said)
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert api.post("/api/files", **said).status_code == 201
