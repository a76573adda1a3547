"""cases.fetch: the data of a case from a service that may be slow, wrong, or away."""

from __future__ import annotations

import pytest

from app.models import Case
from tasks import cases


@pytest.fixture
def case(shop, receiver):
    shop.set(APP_CASES_URL=f"{receiver.url}/api/cases/")
    return shop.add(Case(user_id=shop.user().id, number="AZ 7/24 ä")).id


def test_the_task_is_what_parity_asks_for():
    assert (cases.fetch.options.tries, cases.fetch.options.timeout) == (3, 120)


def test_the_data_is_fetched_by_the_case_s_number(shop, receiver, case):
    receiver.say((200, b'{"court": "Here", "parties": ["A", "B"]}'))
    cases.fetch.delay(case)
    shop.queue.drain()
    row = shop.row(Case, case)
    assert row.data == {"court": "Here", "parties": ["A", "B"]}
    assert row.fetched_at is not None
    assert receiver.asked[0].path == "/api/cases/AZ%207%2F24%20%C3%A4"


def test_a_service_in_trouble_is_asked_three_times(shop, receiver, case):
    receiver.say(503, 429, 500)
    cases.fetch.delay(case)
    shop.queue.drain(including_delayed=True)
    assert len(receiver.asked) == 3
    assert shop.row(Case, case).error == "the service answered 500"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((404, b""), "refused: 404"),
        ((302, b""), "refused: 302"),
        ((200, b"<html>"), "expected JSON"),
        ((200, b"[1]"), "JSON object"),
        ((200, b'{"a": "' + b"x" * 1_048_576 + b'"}'), "at most 1,048,576 bytes"),
        ((200, b"\xff"), "expected JSON"),
    ],
)
def test_an_invalid_answer_fails_at_once(shop, receiver, case, answer, told):
    receiver.say(answer)
    cases.fetch.delay(case)
    shop.queue.drain()[0].assert_failed(with_=told)
    assert told in shop.row(Case, case).error


def test_without_a_service_it_says_what_to_set(shop):
    number = shop.add(Case(user_id=shop.user().id, number="1")).id
    cases.fetch.delay(number)
    shop.queue.drain()[0].assert_failed(with_="set APP_CASES_URL")
