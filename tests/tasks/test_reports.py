"""Reports and exports: real figures in every format, the user told of success and of failure,
nothing done twice.
"""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime

import pytest

from app.models import Attendee, Event, Export, File, FileVersion, Report, State, User, session
from tasks import documents, email, exports, reports, storage


def report(shop, user, type_="user-activity", kind="json"):
    return shop.add(Report(user_id=user.id, type=type_, format=kind)).id


def content(shop, model, number):
    row = shop.row(model, number)
    assert (row.state, row.error) == (State.COMPLETED, None)
    with storage.disk(row.disk).open(row.path) as file:
        data = file.read()
    assert row.size == len(data)
    return data


def tables(shop, number):
    return {table["title"]: table for table in json.loads(content(shop, Report, number))["tables"]}


def test_the_tasks_are_what_parity_asks_for():
    assert (reports.generate.options.tries, reports.generate.options.timeout) == (2, 600)
    assert set(reports.TYPES) == {"user-activity", "file-statistics", "system-health"}


def test_user_activity_counts_what_a_user_did_and_only_an_administrator_sees_everybody(shop):
    ada, root = shop.user("Ada"), shop.user("Root", admin=True)
    for n in range(3):
        shop.add(
            File(
                user_id=ada.id,
                disk="local",
                path=f"{n}",
                original_name="n",
                mime="image/png",
                size=10,
            )
        )
    own, everybody = report(shop, ada), report(shop, root)
    for number in (own, everybody):
        reports.generate.delay(number)
    shop.queue.drain()
    table = tables(shop, own)["User activity"]
    (row,) = table["rows"]
    said = dict(zip(table["columns"], row, strict=True))
    assert (said["name"], said["files"], said["reports"], said["orders"]) == ("Ada", 3, 1, 0)
    assert len(tables(shop, everybody)["User activity"]["rows"]) == 2
    assert shop.subjects == ["Your user-activity report is ready"] * 2


def test_file_statistics_add_up(shop):
    ada = shop.user()
    for n, error in enumerate([None, "broken"]):
        row = File(
            user_id=ada.id,
            disk="local",
            path=f"{n}",
            original_name="n",
            mime="image/png",
            size=10 + n,
            error=error,
            processed_at=None if error else datetime.now(UTC),
        )
        row.versions = [FileVersion(name="large", path="p", width=1, height=1, bytes=7, options={})]
        shop.add(row)
    number = report(shop, ada, "file-statistics")
    reports.generate.delay(number)
    shop.queue.drain()
    told = tables(shop, number)
    assert told["Files"]["rows"] == [["image/png", 2, 21, 1, 1, 10]]
    assert told["Versions"]["rows"] == [["large", 2, 14, 7]]


def test_system_health_reads_the_machine_and_the_queues(shop):
    number = report(shop, shop.user(), "system-health")
    reports.generate.delay(number)
    shop.queue.drain()
    told = tables(shop, number)
    machine = dict(told["Machine"]["rows"])
    assert machine["CPUs"] >= 1
    assert 0 < machine["memory used (%)"] < 100
    assert {"critical", "default", "long"} <= {row[0] for row in told["Queues"]["rows"]}


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        *((type_, "pdf") for type_ in reports.TYPES),
        *(("user-activity", kind) for kind in ("csv", "xlsx")),
    ],
)
def test_every_type_of_report_can_be_fetched_in_every_format(shop, type_, kind):
    number = report(shop, shop.user("Zoë 🎉", email="zoe@example.com"), type_, kind)
    reports.generate.delay(number)
    shop.queue.drain()
    assert len(content(shop, Report, number)) > 100
    (mail,) = shop.mails
    assert (
        documents.link(shop.row(Report, number)).partition("?")[0]
        in mail.get_body(("plain",)).get_content()
    )


def test_a_second_run_makes_nothing_and_mails_nothing_twice(shop):
    number = report(shop, shop.user())
    for _ in range(2):
        reports.generate.delay(number)
        shop.queue.drain()
    assert len(shop.mails) == 1


def test_a_report_that_is_gone_when_it_is_made_leaves_no_file(shop, monkeypatch):
    user, real = shop.user(), documents.write
    number = report(shop, user)

    def deleting(*words):
        real(*words)
        with session() as db:
            db.delete(db.get_one(User, user.id))

    monkeypatch.setattr(documents, "write", deleting)
    shop.queue.run(reports.generate, number).assert_completed()
    assert [file for file in (shop.folder / "files").rglob("*") if file.is_file()] == []


def test_a_disk_that_is_full_is_tried_twice_and_then_the_user_is_told(shop):
    number = report(shop, shop.user())

    def full(*_):
        raise OSError(28, "No space left on device")

    shop.patch.setattr(documents, "write", full)
    reports.generate.delay(number)
    attempts = shop.queue.drain(including_delayed=True)
    assert [attempt.state for attempt in attempts if attempt.job.task == "reports.generate"] == [
        "RETRY",
        "FAILURE",
    ]
    row = shop.row(Report, number)
    assert (row.state, "No space left" in row.error) == (State.FAILED, True)
    assert shop.subjects == ["Your report could not be made"]


@pytest.mark.parametrize(
    ("type_", "kind", "told"),
    [("weather", "json", "expected a type"), ("user-activity", "doc", "expected a format")],
)
def test_an_impossible_report_fails_at_once(shop, type_, kind, told):
    number = report(shop, shop.user(), type_, kind)
    reports.generate.delay(number)
    shop.queue.drain()[0].assert_failed(with_=told)
    assert told in shop.row(Report, number).error


def test_a_cancelled_report_is_skipped(shop):
    number = shop.add(
        Report(user_id=shop.user().id, type="user-activity", format="json", state=State.CANCELLED)
    ).id
    reports.generate.delay(number)
    shop.queue.drain()[0].assert_completed({"report": number, "skipped": "it was cancelled"})
    assert shop.mails == []


# --- exports --------------------------------------------------------------------------------------
@pytest.fixture
def event(shop):
    event = shop.add(
        Event(user_id=shop.user().id, name="July", starts_at=datetime.now(UTC), capacity=9)
    )
    with session() as db:
        db.add_all(
            Attendee(event_id=event.id, name=f"=Guest {n}", email=f"g{n}@example.com")
            for n in range(1100)
        )
    return event


@pytest.mark.parametrize("kind", ["csv", "xlsx", "pdf"])
def test_attendees_are_exported_under_a_link_of_seven_days(shop, event, kind):
    number = shop.add(Export(user_id=event.user_id, event_id=event.id, format=kind)).id
    exports.attendees.delay(number)
    shop.queue.drain()
    data = content(shop, Export, number)
    if kind == "csv":
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        assert (len(rows), rows[0]["name"], rows[1099]["email"]) == (
            1100,
            "'=Guest 0",
            "g1099@example.com",
        )
    row = shop.row(Export, number)
    assert (row.expires_at - row.finished_at).days == 7
    assert shop.subjects == ["Your export of attendees is ready"]
    shop.queue.travel(7 * 24 * 3600 + 1)
    with pytest.raises(LookupError, match="expired"):
        documents.link(row)


def test_an_export_that_fails_tells_its_user(shop, event):
    number = shop.add(Export(user_id=event.user_id, event_id=event.id, format="docx")).id
    exports.attendees.delay(number)
    shop.queue.drain()
    assert "expected a format" in shop.row(Export, number).error
    assert shop.subjects == ["Your export of attendees could not be made"]
    assert email.error_line(ValueError("a\nb")) == "a"
