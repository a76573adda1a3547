"""The settings of the services around the queue: mail, files, alerts and the signing secret.

`config.load` reads them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass, field
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from relevo.config.environment import Environment, bad_url, bad_value
from relevo.errors import SettingsError

NAMES = (
    "MAIL_URL",
    "MAIL_FROM",
    "FILES_DISK",
    "FILES_DISK_BUCKET",
    "ALERT_URLS",
    "ALERT_CRITICAL_URLS",
    "RELEVO_SECRET",
)

DISKS = ("local", "s3")
SECRET_BYTES = 32
_MAIL_OPTIONS = {"tls": ("starttls", "none")}
_S3_OPTIONS = ("region", "endpoint")


@dataclass(frozen=True, slots=True)
class MailSettings:
    """Where mail goes: to an SMTP server, or (`host` is None) into a folder of `.eml` files."""

    sender: str
    folder: Path
    host: str | None = None
    port: int = 25
    #: "tls" from the first byte, "starttls" after a greeting, or "none".
    security: str = "none"
    user: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class S3Settings:
    """A bucket. Without `key`, AWS's own rules for credentials in the environment apply."""

    bucket: str
    prefix: str = ""
    region: str | None = None
    endpoint: str | None = None
    key: str | None = None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """Urls of Apprise: those for every alert, and more for the critical ones."""

    urls: tuple[str, ...] = field(default=(), repr=False)
    critical: tuple[str, ...] = field(default=(), repr=False)


def mail(env: Environment, var_dir: Path) -> MailSettings:
    sender = env.text("MAIL_FROM", "Relevo <relevo@localhost>")
    if "@" not in parseaddr(sender)[1] or not sender.isprintable():
        raise bad_value("MAIL_FROM", "an address like Shop <shop@example.com>", sender)
    given = env.text("MAIL_URL")
    if not given:
        return MailSettings(sender, var_dir / "mail")
    url = _split(
        "MAIL_URL", "smtp://user:password@host:port or smtps://…", given, {"smtp", "smtps"}
    )
    options = _options("MAIL_URL", url, tuple(_MAIL_OPTIONS))
    default = "starttls" if url.port == 587 else "none"  # noqa: PLR2004  the submission port
    security = "tls" if url.scheme == "smtps" else options.get("tls", default)
    if security not in {"tls", *_MAIL_OPTIONS["tls"]}:
        raise bad_value("MAIL_URL", "an url whose tls is starttls or none", security)
    port = url.port or {"tls": 465, "starttls": 587}.get(security, 25)
    return MailSettings(
        sender,
        var_dir / "mail",
        url.hostname,
        port,
        security,
        _part(url.username),
        _part(url.password),
    )


def s3(env: Environment) -> S3Settings | None:
    given = env.text("FILES_DISK_BUCKET")
    if not given:
        if env.text("FILES_DISK") == "s3":
            raise SettingsError(
                "FILES_DISK=s3 needs FILES_DISK_BUCKET, like s3://bucket?region=eu-central-1"
            )
        return None
    url = _split("FILES_DISK_BUCKET", "s3://bucket/folder?region=eu-central-1", given, {"s3"})
    options = _options("FILES_DISK_BUCKET", url, _S3_OPTIONS)
    return S3Settings(
        url.hostname or "",
        url.path.strip("/"),
        options.get("region"),
        options.get("endpoint"),
        _part(url.username),
        _part(url.password),
    )


def alerts(env: Environment) -> AlertSettings:
    return AlertSettings(
        tuple(env.secret("ALERT_URLS").split()), tuple(env.secret("ALERT_CRITICAL_URLS").split())
    )


def secret(env: Environment, var_dir: Path) -> bytes | Path:
    """Return the secret that signs links and tokens: RELEVO_SECRET, or the path of its file.

    `read_secret` creates the file at first use.
    """
    given = env.text("RELEVO_SECRET")
    if given and len(given) < SECRET_BYTES:
        raise SettingsError(
            f"expected RELEVO_SECRET to be at least {SECRET_BYTES} characters, got {len(given)}"
        )
    return given.encode() or var_dir / "secret"


def read_secret(given: bytes | Path) -> bytes:
    """Return the secret itself. The first process creates its file, readable by its owner only."""
    if isinstance(given, bytes):
        return given
    with contextlib.suppress(FileNotFoundError):
        return given.read_bytes()
    given.parent.mkdir(parents=True, exist_ok=True)
    part = given.with_name(f".{secrets.token_hex(8)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(SECRET_BYTES).encode())
        # Another process may have been faster; its secret then counts.
        with contextlib.suppress(FileExistsError):
            given.hardlink_to(part)
    finally:
        part.unlink()
    return given.read_bytes()


def _split(name: str, what: str, given: str, schemes: set[str]) -> SplitResult:
    try:
        url = urlsplit(given)
        fits = (
            url.scheme in schemes and bool(url.hostname) and url.port != 0 and given.isprintable()
        )
    except ValueError:  # a bad port, or brackets that don't close
        fits = False
    if not fits:
        raise bad_url(name, what, given)
    return url


def _options(name: str, url: SplitResult, known: tuple[str, ...]) -> dict[str, str]:
    options = dict(parse_qsl(url.query))
    for option in options:
        if option not in known:
            raise SettingsError(
                f"expected the options of {name} to be {', '.join(known)}, got {option!r}"
            )
    return options


def _part(text: str | None) -> str | None:
    return unquote(text) if text is not None else None
