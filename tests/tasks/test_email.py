"""email.send: what goes out, what waits for the next hour, what is never sent twice, and what the
log says.
"""

from __future__ import annotations

import pytest
from sqlalchemy import select

from app.models import Mail, session
from relevo import mail
from tasks import email


def log():
    with session() as db:
        return db.scalars(select(Mail).order_by(Mail.id)).all()


def test_the_tasks_are_what_parity_asks_for():
    for task in (email.send, email.send_marketing):
        assert (task.options.tries, task.options.timeout, list(task.options.backoff)) == (
            5,
            30,
            [5, 15, 30, 60, 120],
        )
    assert email.tags_of("welcome", 7) == ["email", "template:welcome", "user:7"]


@pytest.mark.parametrize("template", email.TEMPLATES.names())
def test_every_template_can_be_rendered_and_escapes_what_it_is_given(template):
    hostile = "<script>alert('x')</script>"
    data = dict.fromkeys(
        [
            "user",
            "subject",
            "message",
            "app_url",
            "what",
            "link",
            "until",
            "error",
            "name",
            "good",
            "bad",
            "done",
            "total",
            "failed",
            "order",
            "event",
        ],
        hostile,
    )
    told = email.TEMPLATES.render(template, {**data, "rows": [{"number": 1, "error": hostile}]})
    assert "<script>" not in told["html"]
    assert told["subject"]
    assert told["text"]


def test_a_mail_goes_out_and_is_logged(shop):
    user = shop.user("Ada")
    email.send.delay("welcome", user.id)
    shop.queue.drain()
    (sent,) = shop.mails
    assert (sent["To"], sent["Subject"]) == ("Ada <ada@example.com>", "Welcome, Ada")
    (row,) = log()
    assert (row.state, row.attempts, row.kind, row.address, row.user_id) == (
        "sent",
        1,
        "transactional",
        user.email,
        user.id,
    )
    assert row.sent_at >= row.taken_at


def test_the_eleventh_mail_of_an_hour_waits_a_minute_and_counts_no_attempt(shop):
    user, other = shop.user("Ada"), shop.user("Bob")
    for number in range(11):
        email.send.delay("notification", user.id, {"subject": f"number {number}", "message": "m"})
    email.send.delay("welcome", other.id)
    attempts = shop.queue.drain()
    attempts[10].assert_released(60)
    assert len(shop.mails) == 11
    assert shop.subjects[-1] == "Welcome, Bob"
    shop.queue.travel(3601)
    shop.queue.drain()
    assert sorted(shop.subjects)[1:] == sorted(f"number {n}" for n in range(11))
    shop.queue.assert_nothing_pending()
    assert [row.attempts for row in log() if row.user_id == user.id] == [1] * 11


def test_marketing_has_no_such_limit(shop):
    user = shop.user()
    for number in range(12):
        email.send_marketing.delay(
            "announcement", user.id, {"subject": f"{number}", "message": "m"}
        )
    shop.queue.assert_dispatched_on("marketing", email.send_marketing, times=12)
    shop.queue.drain()
    assert len(shop.mails) == 12


def test_a_mail_that_was_sent_is_not_sent_again(shop):
    user = shop.user()
    for _ in range(3):
        with session() as db:
            email.send_once(db, "welcome-7", "welcome", user.id)
    shop.queue.drain()
    assert len(shop.mails) == 1
    assert len(log()) == 1


def test_a_server_that_is_away_is_tried_five_times_and_then_the_log_says_so(shop):
    tried = []
    shop.patch.setattr(
        mail,
        "send",
        lambda *_: tried.append(1) or (_ for _ in ()).throw(OSError("connection refused")),
    )
    email.send.delay("welcome", shop.user().id)
    shop.queue.drain(including_delayed=True)
    (row,) = log()
    assert (len(tried), row.state, row.attempts, row.error) == (
        5,
        "failed",
        5,
        "connection refused",
    )


@pytest.mark.parametrize(
    ("template", "user", "data", "told"),
    [
        ("welcom", 1, {}, "did you mean 'welcome'"),
        ("welcome", 999, {}, "no user 999"),
        ("notification", 1, {}, "undefined"),
    ],
)
def test_a_permanent_error_fails_at_once(shop, template, user, data, told):
    shop.user()
    email.send.delay(template, user, data)
    shop.queue.drain()[0].assert_failed(with_=told)
    assert shop.mails == []
