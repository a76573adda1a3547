"""The fake mailbox: it keeps mail, and a failed assertion lists it."""

from __future__ import annotations

import pytest

from relevo import config, mail
from relevo.errors import MailError
from relevo.mail import Message
from relevo.testing import fake_mail


@pytest.fixture
def settings(tmp_path):
    return config.load(
        {"RELEVO_VAR_DIR": str(tmp_path), "MAIL_URL": "smtp://127.0.0.1:1"}, env_file=None
    ).mail


@pytest.fixture
def box():
    with fake_mail() as box:
        yield box


def test_no_mail_reaches_the_server_until_the_block_ends(settings):
    message = Message(to="ada@example.com", subject="Hello", text="Ada")
    with fake_mail() as box:
        mail.send(settings, message)
    assert box.all() == [message]
    with pytest.raises(OSError, match="refused"):
        mail.send(settings, message)


def test_the_inner_of_two_fakes_gets_the_mail(settings, box):
    with fake_mail() as inner:
        mail.send(settings, Message(to="ada@example.com", subject="Hello", text="Ada"))
    box.assert_nothing_sent()
    inner.assert_count(1)


def test_it_can_refuse_mail(settings, box):
    box.refuse(MailError("no such recipient"))
    with pytest.raises(MailError, match="no such recipient"):
        mail.send(settings, Message(to="ada@example.com", subject="Hello", text="Ada"))
    box.refuse(None)
    mail.send(settings, Message(to="ada@example.com", subject="Hello", text="Ada"))
    box.assert_count(1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            lambda box: box.assert_sent("bob@example.com"),
            "mail to bob@example.com to be sent\nwhat was sent:\n  1. to ada",
        ),
        (lambda box: box.assert_sent(subject="Bye"), "with the subject 'Bye' to be sent"),
        (lambda box: box.assert_sent(times=2), "2 times, got 1"),
        (lambda box: box.assert_sent(where=lambda each: each.html), "where the predicate is true"),
        (lambda box: box.assert_not_sent("ada@example.com"), "expected no mail to ada@example.com"),
        (lambda box: box.assert_count(2), "expected 2 mails, got 1"),
        (lambda box: box.assert_nothing_sent(), "expected no mail to be sent"),
    ],
)
def test_a_failed_assertion_lists_the_mail(settings, box, wrong, said):
    mail.send(settings, Message(to="ada@example.com", subject="Hello", text="Ada"))
    with pytest.raises(AssertionError, match=said):
        wrong(box)


def test_nothing_was_sent(box):
    with pytest.raises(AssertionError, match="nothing was sent"):
        box.assert_sent()
