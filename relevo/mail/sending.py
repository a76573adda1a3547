"""Sends a mail: to an SMTP server, or as a file into a folder while MAIL_URL is unset."""

from __future__ import annotations

import contextlib
import os
import secrets
import smtplib
import ssl
from collections.abc import Callable, Iterator, Mapping
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

from relevo import clock
from relevo.config.services import MailSettings
from relevo.errors import MailError
from relevo.mail.message import Message

#: A test's fake, which takes all mail of this process in place of the server.
taker: Callable[[Message], None] | None = None

#: How long a server may be silent.
TIMEOUT_SECONDS = 10
_PERMANENT = 500  # the first code of a permanent refusal


def send(settings: MailSettings, message: Message) -> None:
    """Send a mail. When this returns, the server or the folder has it.

    Raises MailError if no other try will send it, OSError if one may.
    """
    mail = message.mime(settings.sender)
    if taker is not None:
        taker(message)
        return
    if settings.host is None:
        _write_file(settings, mail)
        return
    try:
        _send(settings, mail)
    except smtplib.SMTPRecipientsRefused as error:
        raise _refusal(message.to, error.recipients) from error
    except smtplib.SMTPAuthenticationError:
        raise  # not the mail's fault: it waits until the password is corrected
    except smtplib.SMTPNotSupportedError as error:
        raise MailError(f"the mail server can't send this mail: {error}") from error
    except smtplib.SMTPResponseException as error:
        if error.smtp_code >= _PERMANENT:
            raise MailError(
                f"the mail server refused the mail: {error.smtp_code} {_text(error.smtp_error)}"
            ) from error
        raise


def probe(settings: MailSettings) -> None:
    """Connect and log in, but send nothing. Raises OSError (SMTPException is one)."""
    if settings.host is None:
        settings.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(settings.folder, os.W_OK | os.X_OK):
            raise PermissionError(f"nothing can be written into {settings.folder}")
        return
    with _session(settings) as server:
        server.noop()


def _send(settings: MailSettings, mail: EmailMessage) -> None:
    with _session(settings) as server:
        server.send_message(mail)


@contextlib.contextmanager
def _session(settings: MailSettings) -> Iterator[smtplib.SMTP]:
    with _connect(settings) as server:
        if settings.security == "starttls":
            server.starttls(context=ssl.create_default_context())
        if settings.user is not None:
            server.login(settings.user, settings.password or "")
        yield server


def _connect(settings: MailSettings) -> smtplib.SMTP:
    host = settings.host or ""
    if settings.security == "tls":
        return smtplib.SMTP_SSL(
            host, settings.port, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context()
        )
    return smtplib.SMTP(host, settings.port, timeout=TIMEOUT_SECONDS)


def _refusal(to: str, answers: Mapping[str, tuple[int, bytes]]) -> Exception:
    code, answer = next(iter(answers.values()))
    message = f"{to} was refused by the mail server: {code} {_text(answer)}"
    return MailError(message) if code >= _PERMANENT else OSError(message)


def _text(answer: Any) -> str:
    return (answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer))[:300]


def _write_file(settings: MailSettings, mail: EmailMessage) -> None:
    """Write the mail as a file. It appears whole, under a name that sorts by time."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    name = f"{clock.utc(clock.now()):%Y%m%d-%H%M%S-%f}-{secrets.token_hex(4)}"
    part = settings.folder / f".{name}.part"
    try:
        with part.open("xb") as file:
            file.write(mail.as_bytes(policy=SMTP))
            file.flush()
            os.fsync(file.fileno())
        part.replace(settings.folder / f"{name}.eml")
    finally:
        part.unlink(missing_ok=True)
