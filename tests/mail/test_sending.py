"""Mail goes to a real SMTP server or to a folder; bad mails and refusals are errors."""

from __future__ import annotations

import email
import email.policy

import pytest
from aiosmtpd.controller import Controller

from relevo.config.services import MailSettings
from relevo.errors import SettingsError
from relevo.mail import MailError, Message, Templates, send
from tests.support import servers
from tests.support.settings import load


class Inbox:
    """The mails of a server. `answer` is its answer to a recipient, or (`data…`) to the data."""

    answer = "250 OK"

    def __init__(self):
        self.mails = []

    # - aiosmtpd's name
    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802
        if self.answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.answer

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's name
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


@pytest.fixture(scope="module")
def server():
    inbox = Inbox()
    inbox.port = servers.free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=inbox.port)
    controller.start()
    yield inbox
    controller.stop()


@pytest.fixture
def inbox(server):
    server.mails.clear()
    server.answer = "250 OK"
    return server


@pytest.fixture
def settings(inbox, tmp_path):
    return MailSettings("Shop <shop@example.com>", tmp_path, "127.0.0.1", inbox.port)


@pytest.fixture
def templates(tmp_path):
    (tmp_path / "welcome.txt").write_text("Subject: Welcome, {{ name }}\n\nHello {{ name }}.\n")
    (tmp_path / "welcome.html").write_text("<p>Hello {{ name }}.</p>\n")
    (tmp_path / "headless.txt").write_text("Hello\n")
    (tmp_path / "headless.html").write_text("")
    return Templates(tmp_path)


def test_a_mail_arrives_with_text_and_html(settings, inbox):
    send(
        settings,
        Message(
            "ada@example.com",
            "Grüße 🎉",
            "plain\n",
            "<p>rich</p>",
            id="job-7",
            name="Ada, Countess",
        ),
    )
    (mail,) = inbox.mails
    assert (mail["Subject"], mail["From"], mail["Message-ID"]) == (
        "Grüße 🎉",
        "Shop <shop@example.com>",
        "<job-7@example.com>",
    )
    assert mail["To"].addresses[0].display_name == "Ada, Countess"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize(
    "to",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "a@b@c",
        "a b@c",
        "a@b\nBcc: x@y.z",
        "=?utf-8?q?a=0D=0AX?=@b.org",
        "a@b,c@d",
        "Ada <a@b.c>",
        "a@b..c",
        "x" * 300 + "@b.c",
    ],
)
def test_a_wrong_address_is_refused_at_once(to):
    with pytest.raises(MailError, match="expected the address of a mail"):
        Message(to, "subject", "text")


@pytest.mark.parametrize("subject", ["", " ", "a\nBcc: everybody@example.com", "a\rb", "x" * 256])
def test_a_wrong_subject_is_refused_at_once(subject):
    with pytest.raises(MailError, match="expected a subject"):
        Message("ada@example.com", subject, "text")


@pytest.mark.parametrize(
    "words", ["=?utf-8?q?A=0D=0ABcc:_all@example.com?=", "=?utf-8?b?QQ0KQmNjOiB4QHkub3Jn?="]
)
def test_an_encoded_word_can_not_add_a_header(settings, inbox, words):
    """A user's subject of printable letters, which Python would decode into a header line."""
    send(settings, Message("ada@example.com", f"Hello {words}", "text", name=words))
    (mail,) = inbox.mails
    assert mail["Bcc"] is None
    assert mail["Subject"].startswith("Hello =")
    assert mail["To"].addresses[0].addr_spec == "ada@example.com"


def test_a_permanent_refusal_is_a_mail_error_and_a_temporary_one_is_not(settings, inbox):
    inbox.answer = "550 no such user"
    with pytest.raises(MailError, match="550 no such user"):
        send(settings, Message("nobody@example.com", "s", "t"))
    inbox.answer = "451 later"
    with pytest.raises(OSError, match="451 later"):
        send(settings, Message("ada@example.com", "s", "t"))


def test_a_server_that_is_away_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="refused"):
        send(MailSettings("a@b.c", tmp_path, "127.0.0.1", 1), Message("ada@example.com", "s", "t"))


def test_without_a_server_each_mail_is_a_file(tmp_path):
    settings = MailSettings("a@b.c", tmp_path / "mail")
    for number in range(3):
        send(settings, Message("ada@example.com", f"number {number}", "text"))
    files = sorted((tmp_path / "mail").iterdir())
    assert [email.message_from_bytes(file.read_bytes())["Subject"] for file in files] == [
        "number 0",
        "number 1",
        "number 2",
    ]
    assert all(file.suffix == ".eml" for file in files)


def test_values_are_escaped_in_html_and_made_one_line_in_a_subject(templates):
    texts = templates.render("welcome", {"name": "<b>Ada</b>\nBcc: all"})
    assert texts["html"].startswith("<p>Hello &lt;b&gt;Ada&lt;/b&gt;")
    assert texts["text"].startswith("Hello <b>Ada</b>")
    assert "\n" not in texts["subject"]


def test_a_missing_template_or_value_is_a_mail_error(templates):
    with pytest.raises(MailError, match="no mail template named 'welcom'; did you mean 'welcome'"):
        templates.render("welcom", {})
    with pytest.raises(MailError, match="no mail template"):
        templates.render("../secrets", {})
    with pytest.raises(MailError, match="'name' is undefined"):
        templates.render("welcome", {})
    with pytest.raises(MailError, match=r"first line of headless\.txt"):
        templates.render("headless", {})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://localhost", ("localhost", 25, "none", None, None)),
        (
            "smtp://u:p%40ss@mail.example.com:587",
            ("mail.example.com", 587, "starttls", "u", "p@ss"),
        ),
        ("smtps://mail.example.com", ("mail.example.com", 465, "tls", None, None)),
        ("smtp://h?tls=starttls", ("h", 587, "starttls", None, None)),
        ("smtp://h:587?tls=none", ("h", 587, "none", None, None)),
    ],
)
def test_the_url_of_a_mail_server_is_read(url, expected):
    mail = load(MAIL_URL=url).mail
    assert (mail.host, mail.port, mail.security, mail.user, mail.password) == expected


@pytest.mark.parametrize(
    "url",
    [
        "mail.example.com",
        "http://u:secret@h",
        "smtp://",
        "smtp://h:secret",
        "smtp://h?tsl=none",
        "smtp://h?tls=maybe",
    ],
)
def test_a_bad_url_stops_the_start_and_shows_no_password(url):
    with pytest.raises(SettingsError, match="MAIL_URL") as refused:
        load(MAIL_URL=url)
    assert "secret" not in str(refused.value)


def test_a_bad_sender_stops_the_start():
    with pytest.raises(SettingsError, match="MAIL_FROM"):
        load(MAIL_FROM="nobody")
