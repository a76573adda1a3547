"""webhooks.deliver: signed, retried or not, logged, and never sent to a private address."""

from __future__ import annotations

import json
import socket
from types import SimpleNamespace

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from standardwebhooks.webhooks import Webhook as Verifier

from app.models import Delivery, Webhook, session
from tasks import untrusted_urls, webhooks
from tasks.untrusted_urls import RefusedUrlError


@pytest.fixture
def private(shop):
    shop.set(APP_PRIVATE_WEBHOOKS="yes")
    return shop


def log():
    with session() as db:
        return db.scalars(select(Delivery).order_by(Delivery.id)).all()


def test_the_task_is_what_parity_asks_for():
    options = webhooks.deliver.options
    assert (options.tries, options.timeout, list(options.backoff)) == (
        5,
        30,
        [30, 60, 120, 300, 600],
    )


def test_a_delivery_is_signed_so_that_the_standard_s_own_library_accepts_it(private, receiver):
    user = private.user()
    number, new = webhooks.send(
        user.id, f"{receiver.url}/hook?x=1", {"event": "paid", "name": "Zoë"}
    )
    private.queue.assert_dispatched_on("webhooks", webhooks.deliver, times=1)
    private.queue.drain()
    (asked,) = receiver.asked
    assert (new, asked.method, asked.path) == (True, "POST", "/hook?x=1")
    told = Verifier(webhooks.secret_of(user.id)).verify(asked.body, asked.headers)
    assert told == json.loads(asked.body) == {"event": "paid", "name": "Zoë"}
    assert private.row(Webhook, number).state == "completed"
    (line,) = log()
    assert (line.status, line.attempt, line.answer, line.error) == (200, 1, "{}", None)


def test_a_delivery_is_under_way_once_and_can_be_sent_again_afterwards(private, receiver):
    user = private.user()
    first = webhooks.send(user.id, receiver.url, {"n": 1})
    assert webhooks.send(user.id, receiver.url, {"n": 1}) == (first[0], False)
    assert webhooks.send(user.id, receiver.url, {"n": 2})[1]
    private.queue.drain()
    assert len(receiver.asked) == 2
    assert webhooks.send(user.id, receiver.url, {"n": 1})[1]


@pytest.mark.parametrize("answers", [[500, 503, 200], [502, 200]])
def test_a_server_s_error_is_tried_again(private, receiver, answers):
    receiver.say(*answers)
    number, _ = webhooks.send(private.user().id, receiver.url, {})
    attempts = private.queue.drain(including_delayed=True)
    attempts[0].assert_retried(30)
    assert [line.status for line in log()] == answers
    assert [line.attempt for line in log()] == list(range(1, len(answers) + 1))
    assert private.row(Webhook, number).state == "completed"
    assert len({asked.headers["webhook-id"] for asked in receiver.asked}) == 1


def test_a_delivery_is_tried_five_times(private, receiver):
    receiver.say(500)
    number, _ = webhooks.send(private.user().id, receiver.url, {})
    private.queue.drain(including_delayed=True)
    row = private.row(Webhook, number)
    assert (len(receiver.asked), row.state, row.error) == (5, "failed", "the receiver answered 500")


def test_a_failed_delivery_that_is_retried_arrives(private, receiver):
    """It was skipped, and its job had completed: a retry that did nothing."""
    receiver.say(410, 200)
    number, _ = webhooks.send(private.user().id, receiver.url, {})
    private.queue.drain()
    private.queue.run(webhooks.deliver, number).assert_completed({"webhook": number, "status": 200})
    row = private.row(Webhook, number)
    assert (row.state, row.error, len(receiver.asked)) == ("completed", None, 2)
    private.queue.run(webhooks.deliver, number).assert_completed()
    assert len(receiver.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 410, 429, 301, 304])
def test_a_refusal_is_not_tried_again(private, receiver, status):
    receiver.say(status)
    number, _ = webhooks.send(private.user().id, receiver.url, {})
    private.queue.drain()[0].assert_failed(with_=f"refused the webhook: {status}")
    assert private.row(Webhook, number).pending_key is None


def test_a_receiver_that_is_away_is_tried_again(private):
    webhooks.send(private.user().id, "http://127.0.0.1:1/", {})
    private.queue.drain()[0].assert_retried(30, with_="can't be reached")
    assert "ConnectError" in log()[0].error


def test_a_redirect_that_keeps_the_post_is_followed_a_few_times(private, receiver):
    receiver.say((307, b"", {"Location": "/elsewhere"}), 200)
    webhooks.send(private.user().id, receiver.url, {"a": 1})
    private.queue.drain()
    assert [(one.path, one.body) for one in receiver.asked] == [
        ("/", b'{"a":1}'),
        ("/elsewhere", b'{"a":1}'),
    ]
    receiver.say((308, b"", {"Location": "/round"}))
    webhooks.send(private.user("Bob").id, receiver.url, {})
    private.queue.drain()[0].assert_failed(with_="at most 3 redirects")


def test_a_webhook_that_was_deleted_says_so(private):
    private.queue.run(webhooks.deliver, 7).assert_retried(
        30, with_="there is no webhook 7: it was deleted"
    )


def test_a_long_answer_is_not_read_to_its_end(private, receiver):
    receiver.say((200, b"x" * 100_000))
    webhooks.send(private.user().id, receiver.url, {})
    private.queue.drain()
    assert len(log()[0].answer) == untrusted_urls.LONGEST_ANSWER_BYTES


def test_an_answer_is_kept_as_it_came_and_not_unpacked(private, receiver):
    """A megabyte may be a gigabyte of zeros; and the status counts, whatever the body is."""
    receiver.say((200, b"no gzip at all", {"Content-Encoding": "gzip"}))
    webhooks.send(private.user().id, receiver.url, {})
    private.queue.drain()[0].assert_completed()
    assert (log()[0].answer, receiver.asked[0].headers["accept-encoding"]) == (
        "no gzip at all",
        "identity",
    )


def test_a_slow_answer_is_left_when_its_status_is_known(monkeypatch):
    came, moments = [], iter([0, 4, 6])

    def drops():
        while True:
            came.append(b"x")
            yield b"x"

    monkeypatch.setattr(untrusted_urls, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    assert untrusted_urls._read_beginning(SimpleNamespace(iter_raw=drops)) == "xx"


def test_an_answer_with_a_slow_beginning_is_logged_too(private, receiver, monkeypatch):
    """Its attempt was killed at its timeout, and nobody could see that there had been one."""

    def dripping(*_words, **_others):
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(untrusted_urls, "post", dripping)
    webhooks.send(private.user().id, receiver.url, {})
    private.queue.drain()[0].assert_retried(30, with_="no answer within 25 seconds")
    assert log()[0].error == "no answer within 25 seconds"
    assert webhooks.deliver.soft_time_limit < webhooks.deliver.options.timeout


# --- private addresses ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "fe80::1%eth0",
        "fc00::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "::",
        "2002:7f00:1::",
        "ff02::1",
        "192.0.2.1",
    ],
)
def test_private_addresses_are_not_public(address):
    assert not untrusted_urls.is_public(address)


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::808:808"],
)
def test_public_addresses_are_public(address):
    assert untrusted_urls.is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_a_private_address_is_refused_at_once_and_not_asked(shop, receiver, host):
    port = receiver.url.rpartition(":")[2]
    webhooks.send(shop.user().id, f"http://{host}:{port}/", {})
    attempt = shop.queue.drain()[0]
    attempt.assert_failed() if host not in {
        "2130706433",
        "0x7f.1",
    } else attempt.assert_not_completed()
    assert receiver.asked == []
    assert log()[0].error


def test_a_name_with_one_private_address_among_its_addresses_is_refused(shop, monkeypatch):
    found = [(2, 1, 6, "", (ip, 80)) for ip in ("93.184.216.34", "10.0.0.7")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: found)
    webhooks.send(shop.user().id, "http://mixed.example/", {})
    shop.queue.drain()[0].assert_failed(with_="mixed.example is a private address")


def test_a_redirect_to_a_private_address_is_refused(shop, receiver, monkeypatch):
    """The receiver is public as far as we can tell; what it redirects to is not."""
    port = int(receiver.url.rpartition(":")[2])
    monkeypatch.setattr(untrusted_urls, "is_public", lambda address: address == "127.0.0.1")
    receiver.say((307, b"", {"Location": f"http://127.0.0.2:{port}/"}))
    webhooks.send(shop.user().id, receiver.url, {})
    shop.queue.drain()[0].assert_failed(with_="127.0.0.2 is a private address")
    assert len(receiver.asked) == 1


def test_a_name_is_resolved_once_and_the_connection_goes_to_the_checked_address(
    private, receiver, monkeypatch
):
    port = int(receiver.url.rpartition(":")[2])
    answers = [[(2, 1, 6, "", ("127.0.0.1", port))]]
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *a, **k: answers.pop() if host == "hook.example" else real(host, *a, **k),
    )
    webhooks.send(private.user().id, f"http://hook.example:{port}/", {})
    private.queue.drain()[0].assert_completed()
    assert receiver.asked[0].headers["host"] == f"hook.example:{port}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://example.com",
        "file:///etc/passwd",
        "http://",
        "http://u:p@example.com",
        "//example.com",
        "http://example.com:99999",
        "javascript:alert(1)",
        "http://[::1",
        "http://exa\nmple.com",
    ],
)
def test_an_invalid_url_is_refused_where_it_is_given(shop, url):
    with pytest.raises(RefusedUrlError, match="expected an url"):
        webhooks.send(shop.user().id, url, {})
    shop.queue.assert_nothing_dispatched()


def test_a_deleted_user_is_not_mistaken_for_a_delivery_under_way(shop):
    """It was looked for, not found and sent again, until Python's stack was full."""
    with pytest.raises(IntegrityError):
        webhooks.send(7, "http://example.com", {})


def test_a_body_that_is_too_long_is_refused_where_it_is_given(shop):
    with pytest.raises(ValueError, match="at most 60,000 bytes"):
        webhooks.send(shop.user().id, "http://example.com", "x" * 60_000)
