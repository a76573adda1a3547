"""events.process: tickets in the order of registration, figures, an export; the administrators hear
when it can't be.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from app.models import Attendee, Event, Export, session
from relevo.middleware import RateLimited, WithoutOverlapping
from tasks import events, exports


@pytest.fixture
def event(shop):
    event = shop.add(
        Event(user_id=shop.user().id, name="July", starts_at=datetime.now(UTC), capacity=12)
    )
    with session() as db:
        db.add_all(
            Attendee(
                event_id=event.id,
                name=f"G{n}",
                email=f"g{n}@x.org",
                state="cancelled" if n == 3 else "registered",
            )
            for n in range(20)
        )
    return event.id


def attendees(event):
    with session() as db:
        return db.scalars(select(Attendee).filter_by(event_id=event).order_by(Attendee.id)).all()


def test_the_task_is_what_parity_asks_for():
    options = events.process.options
    assert (options.retry_until, list(options.unique_by)) == (7200, ["event_id"])
    assert {type(one) for one in options.middleware} >= {WithoutOverlapping, RateLimited}


def test_the_first_attendees_get_tickets_and_the_others_wait(shop, event, monkeypatch):
    monkeypatch.setattr(events, "PAGE", 5)
    events.process.delay(event)
    shop.queue.drain()
    states = [one.state for one in attendees(event)]
    assert states == ["confirmed"] * 3 + ["cancelled"] + ["confirmed"] * 9 + ["waiting"] * 7
    assert len({one.ticket for one in attendees(event) if one.ticket}) == 12
    assert shop.row(Event, event).statistics == {
        "attendees": 20,
        "confirmed": 12,
        "cancelled": 1,
        "waiting": 7,
        "capacity": 12,
        "full": True,
    }
    shop.queue.assert_dispatched_once(exports.attendees)
    assert shop.row(Export, 1).state == "completed"


def test_a_second_run_leaves_tickets_as_they_are_and_gives_the_places_that_are_free(shop, event):
    events.process.delay(event)
    shop.queue.drain()
    before = {one.id: one.ticket for one in attendees(event)}
    with session() as db:
        db.get(Attendee, 1).state = "cancelled"
    events.process.delay(event)
    shop.queue.drain()
    after = {one.id: one.ticket for one in attendees(event)}
    assert [one for one in after if after[one] != before[one]] == [14]


def test_when_it_fails_for_good_each_administrator_is_told(shop, event, monkeypatch):
    shop.user("Root", admin=True)
    shop.user("Boss", admin=True)
    monkeypatch.setattr(events, "_confirm_page", lambda _: 1 / 0)
    events.process.delay(event)
    for _ in range(10):
        shop.queue.drain(including_delayed=True)
    assert shop.row(Event, event).error == "division by zero"
    assert sorted(mail["To"].addresses[0].username for mail in shop.mails) == ["boss", "root"]


def test_an_event_without_attendees_is_fine(shop):
    event = shop.add(
        Event(user_id=shop.user().id, name="Nobody", starts_at=datetime.now(UTC), capacity=1)
    )
    shop.queue.run(events.process, event.id).assert_completed(
        {"attendees": 0, "capacity": 1, "full": False}
    )
