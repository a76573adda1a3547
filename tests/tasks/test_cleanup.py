"""Scheduled work: cleaning up, alerts, and the daily report."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from sqlalchemy import delete

import tasks
from app.models import Answer, Export, Import, Mail, Report, RequestCount, Token, session
from app.models.base import now
from relevo.config.services import AlertSettings
from relevo.disks import LocalDisk
from relevo.events import Event, JobEvent
from tasks import alerts, cleanup, reports, storage


def test_the_files_of_documents_that_have_expired_go_and_their_rows_stay(shop):
    user = shop.user()
    numbers = []
    for days in (-1, 1):
        storage.disk("local").put(f"reports/{days}", b"x")
        row = Report(
            user_id=user.id,
            type="t",
            format="csv",
            disk="local",
            path=f"reports/{days}",
            expires_at=now() + timedelta(days=days),
        )
        numbers.append(shop.add(row).id)
    for gone in (1, 0):
        shop.queue.run(cleanup.documents).assert_completed(gone)
    assert [shop.row(Report, number).path for number in numbers] == [None, "reports/1"]
    assert not storage.disk("local").exists("reports/-1")
    assert storage.disk("local").exists("reports/1")


@pytest.mark.parametrize(
    ("task", "model", "row"),
    [
        (cleanup.documents, Report, {"type": "t", "format": "csv", "expires_at": now()}),
        (cleanup.uploads, Import, {"name": "a.csv", "finished_at": now() - timedelta(days=31)}),
    ],
)
def test_a_row_that_is_deleted_while_its_file_goes_keeps_no_other_file_there(
    shop, monkeypatch, task, model, row
):
    user, real = shop.user(), LocalDisk.delete
    rows = [shop.add(model(user_id=user.id, disk="local", path=f"{n}", **row)).id for n in range(2)]

    def deleted_meanwhile(disk, path):
        real(disk, path)
        with session() as db:
            db.execute(delete(model).where(model.id == rows[0]))

    monkeypatch.setattr(LocalDisk, "delete", deleted_meanwhile)
    shop.queue.run(task).assert_completed(2)
    assert not shop.row(model, rows[1]).path


def test_old_records_are_deleted(shop):
    user = shop.user()
    old = now() - timedelta(days=100)
    for expires in (old, now()):
        shop.add(
            Token(
                user_id=user.id, name="t", hash=f"{expires}"[:64], abilities=[], expires_at=expires
            )
        )
    for moment in (old, now()):
        shop.add(Answer(user_id=user.id, key=f"{moment}"[:64], fingerprint="f", created_at=moment))
        shop.add(RequestCount(subject="s", minute=int(moment.timestamp()) // 60, requests=1))
        shop.add(
            Mail(
                user_id=user.id,
                job_id=f"{moment}",
                kind="transactional",
                template="t",
                address="a",
                subject="s",
                created_at=moment,
            )
        )
    for gone in (4, 0):
        shop.queue.run(cleanup.records).assert_completed(gone)


def test_failed_jobs_and_batches_are_pruned(shop):
    for task in (cleanup.failed_jobs, cleanup.batches, cleanup.uploads):
        shop.queue.run(task).assert_completed(0)


def test_each_administrator_gets_one_system_report_a_day(shop):
    shop.user("Root", admin=True)
    shop.user("Ada")
    for made in (1, 0):
        shop.queue.run(reports.system_daily).assert_completed(made)
    shop.queue.drain()
    with session() as db:
        assert db.get(Report, 1).state == "completed"
        assert db.get(Export, 1) is None


# --- alerts
# --------------------------------------------------------------------------------------------------
def failed(queue, task="images.process"):
    return JobEvent(Event.FAILED, "id-7", task, queue, 3, "OSError: disk full")


@pytest.mark.parametrize(("queue", "receivers"), [("default", 1), ("critical", 2)])
def test_a_failed_job_is_an_alert_and_a_critical_one_a_critical_alert(
    shop, receiver, monkeypatch, queue, receivers
):
    url = receiver.url.replace("http", "json")
    people = AlertSettings((f"{url}/all",), (f"{url}/critical",))
    monkeypatch.setattr(
        tasks.app, "settings", dataclasses.replace(tasks.app.settings, alerts=people)
    )
    alerts.job_failed(failed(queue))
    shop.queue.drain()[0].assert_completed(receivers)
    assert b"disk full" in receiver.asked[0].body
    assert (b"Critical" in receiver.asked[0].body) == (queue == "critical")


def test_without_receivers_and_for_failed_alerts_no_alert_is_dispatched(shop, monkeypatch):
    alerts.job_failed(failed("critical"))
    monkeypatch.setattr(
        tasks.app,
        "settings",
        dataclasses.replace(tasks.app.settings, alerts=AlertSettings(("json://x",))),
    )
    alerts.job_failed(failed("high", "alerts.send"))
    shop.queue.assert_nothing_dispatched()
