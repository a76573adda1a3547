"""The application's own settings, `APP_…`, beside Relevo's. They are read once, from the
environment and `.env`.

A wrong value stops the start. docs/settings.md explains each; `.env.example` is the file to copy.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from relevo import config
from relevo.config import Settings, environment
from relevo.config.environment import Environment, bad_url, bad_value
from relevo.errors import SettingsError, did_you_mean

NAMES = (
    "APP_URL",
    "APP_CASES_URL",
    "APP_PAYMENTS_URL",
    "APP_PRIVATE_WEBHOOKS",
    "APP_UPLOAD_LIMIT",
    "APP_REQUESTS_A_MINUTE",
    "APP_PDF_FONT",
)

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Application:
    """The application's settings, with their defaults."""

    #: APP_URL: the address of the API from outside. Links begin with it.
    url: str
    #: APP_CASES_URL: the service with the data of cases, at `<url>/<number>`. None: no service.
    cases_url: str | None
    #: APP_PAYMENTS_URL: the payment service of orders. None: orders are paid by invoice.
    payments_url: str | None
    #: APP_PRIVATE_WEBHOOKS: whether a webhook may go to a private address.
    private_webhooks: bool
    #: APP_UPLOAD_LIMIT: the largest upload, in bytes.
    upload_limit: int
    #: APP_REQUESTS_A_MINUTE: the limit for one token, or for one address without a token.
    requests_a_minute: int
    #: APP_PDF_FONT: a TrueType font for PDFs. None: a font of this machine, or one with western
    #: letters only.
    pdf_font: Path | None


@functools.cache
def application() -> Application:
    """The application's settings from the process environment and `.env`."""
    return load()


@functools.cache
def engine() -> Settings:
    """Relevo's settings from the same places."""
    return config.load(others=["APP_*"])


def load(
    environ: Mapping[str, str] | None = None, env_file: Path | None = Path(".env")
) -> Application:
    """Read the settings. Raises SettingsError for the first wrong one."""
    env = environment.read((), os.environ if environ is None else environ, env_file, ["*"])
    _check_names(env_file)
    return Application(
        url=(_url(env, "APP_URL") or "http://127.0.0.1:8000").rstrip("/"),
        cases_url=_url(env, "APP_CASES_URL"),
        payments_url=_url(env, "APP_PAYMENTS_URL"),
        private_webhooks=env.choice("APP_PRIVATE_WEBHOOKS", "no", ("yes", "no")) == "yes",
        upload_limit=env.whole("APP_UPLOAD_LIMIT", 50 * MEGABYTE, 1, 10**12 - 1),
        requests_a_minute=env.whole("APP_REQUESTS_A_MINUTE", 120, 1, 1_000_000),
        pdf_font=_font(env),
    )


def _check_names(env_file: Path | None) -> None:
    """Refuse unknown names in the file only: in the environment other programs use `APP_` as well
    (APP_ENV, APP_HOME …).
    """
    given = environment.read((), {}, env_file, ["*"])
    for name in given.names():
        if name.startswith("APP_") and name not in NAMES:
            raise SettingsError(
                f"expected every setting in {env_file} to be a known one, got {name!r}"
                f"{did_you_mean(name, NAMES)}"
            )


def _url(env: Environment, name: str) -> str | None:
    given = env.text(name)
    if not given:
        return None
    try:
        url = urlsplit(given)
        fits = (
            url.scheme in {"http", "https"}
            and bool(url.hostname)
            and url.port != 0
            and given.isprintable()
        )
    except ValueError:
        fits = False
    if not fits:
        raise bad_url(name, "an url that begins with http:// or https://", given)
    return given.rstrip("/")


def _font(env: Environment) -> Path | None:
    given = env.text("APP_PDF_FONT")
    if given and not Path(given).is_file():
        raise bad_value("APP_PDF_FONT", "a file, a TrueType font", given)
    return Path(given).absolute() if given else None
