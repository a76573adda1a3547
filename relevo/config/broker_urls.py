"""The urls of the database and the brokers: complete, absolute, and checked at the start.

An error never shows a url, because it may hold a password. The errors of SQLAlchemy and urllib do,
so they are not passed on.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from relevo.config.environment import Environment, bad_url
from relevo.database.engine import resolve
from relevo.errors import SettingsError

_DATABASES = {"sqlite", "postgresql", "mysql", "mariadb"}
_DATABASE = "a sqlite, postgresql, mysql or mariadb url"


def database(env: Environment, default: Path) -> str:
    """Read DATABASE_URL, with its Python driver named.

    The path of a SQLite file is made absolute, so that every process means the same file.
    """
    return _database("DATABASE_URL", env.text("DATABASE_URL") or f"sqlite:///{default}")


def any_broker(name: str, given: str) -> tuple[str, str]:
    """The kind and the complete url of the broker that a setting of this name gives."""
    scheme = given.partition(":")[0]
    if scheme == "sqs":
        return "sqs", given
    if scheme.partition("+")[0] in {"redis", "rediss", "sentinel"}:
        return "redis", _redis(name, given)
    if scheme.partition("+")[0] not in {*_DATABASES, "postgres"}:
        raise bad_url(name, f"{_DATABASE}, or one of redis or sqs", given)
    return "database", broker(_database(name, given))


def _database(name: str, given: str) -> str:
    url = _parse(name, given)
    if url.get_backend_name() not in _DATABASES:
        raise bad_url(name, _DATABASE, given)
    _check_driver(name, url)
    is_sqlite = url.get_backend_name() == "sqlite"
    return (_absolute_path(name, url) if is_sqlite else url).render_as_string(hide_password=False)


def broker(database_url: str) -> str:
    """Return the database's url as Celery's broker url.

    It leaves out the Python driver that Relevo chooses, because kombu reads a `+` in another way.
    """
    url = make_url(database_url)
    plain = url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)
    return plain if resolve(plain) == url else database_url


def sqs(env: Environment) -> str:
    """Read SQS_URL. With a bare `sqs://`, boto3 looks for the credentials and the region itself."""
    given = env.text("SQS_URL", "sqs://")
    if not given.startswith("sqs://"):
        raise bad_url("SQS_URL", "an sqs:// url", given)
    return given


def redis(env: Environment) -> str:
    """Read REDIS_URL, or build it from the other REDIS_ settings.

    Without any of them it is redis://127.0.0.1:6379/0.
    """
    given = env.text("REDIS_URL")
    if given:
        return _redis("REDIS_URL", given)
    host = env.host("REDIS_HOST", "127.0.0.1")
    port, number = env.whole("REDIS_PORT", 6379, 1, 65535), env.whole("REDIS_DB", 0, 0, 1_000_000)
    return f"redis://{_credentials(env)}{f'[{host}]' if ':' in host else host}:{port}/{number}"


def _redis(name: str, given: str) -> str:
    return ";".join(
        _require_certificate(_check_redis_url(name, url, given)) for url in _split_sentinels(given)
    )


def _parse(name: str, given: str) -> URL:
    try:
        return resolve(given)
    except (ArgumentError, ValueError):
        raise bad_url(name, _DATABASE, given) from None


def _check_driver(name: str, url: URL) -> None:
    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except (ImportError, NoSuchModuleError, AttributeError):
        raise SettingsError(
            f"{name} names {url.drivername}, which isn't installed: "
            f"pip install 'relevo[{_extra(url)}]', or install that driver"
        ) from None
    if dialect.is_async:
        raise SettingsError(
            f"expected {name} to name a blocking driver, got {url.drivername!r}, an asyncio one"
        )


def _extra(url: URL) -> str:
    return "postgresql" if url.get_backend_name() == "postgresql" else "mysql"


def _absolute_path(name: str, url: URL) -> URL:
    if not url.database or url.database == ":memory:":
        raise SettingsError(
            f"expected {name} to name a SQLite file, got a database in memory: "
            "processes can't share one"
        )
    if url.database.startswith("file:"):  # SQLite's own form of a url: left as it is
        return url
    path = str(Path(url.database).absolute())
    if ";" in path or "?" in path:
        raise SettingsError(
            f"expected {name} to be a SQLite path without ; and ? (they end a url), got {path!r}"
        )
    return url.set(database=path)


def sentinel_master(env: Environment, redis_url: str) -> str | None:
    """Read REDIS_SENTINEL_MASTER: the master's name at the Sentinels of REDIS_URL.

    None when REDIS_URL names no Sentinels.
    """
    name = env.text("REDIS_SENTINEL_MASTER")
    if not redis_url.startswith("sentinel://"):
        return None
    if not name:
        raise SettingsError(
            "expected REDIS_SENTINEL_MASTER to be the master's name in the Sentinels' "
            "configuration, got nothing: a sentinel:// url needs it"
        )
    return name


def _split_sentinels(given: str) -> list[str]:
    """Split a url of Sentinels into one url each. Another url stays whole."""
    return given.split(";") if given.startswith("sentinel://") else [given]


def _check_redis_url(name: str, url: str, given: str) -> str:
    try:
        fits = _is_redis_url(urlsplit(url), sentinel=given.startswith("sentinel://"))
    except ValueError:
        fits = False
    if not fits or ";" in url:
        raise bad_url(
            name,
            "a redis://, rediss://, redis+socket:// or sentinel:// url, "
            "like redis://:password@host:6379/0",
            given,
        )
    return url


def _is_redis_url(parts: SplitResult, sentinel: bool) -> bool:
    if parts.scheme == "redis+socket":
        return len(parts.path) > 1
    number = parts.path.strip("/")
    schemes = {"sentinel"} if sentinel else {"redis", "rediss"}
    return parts.scheme in schemes and parts.port != 0 and (not number or number.isdecimal())


def _require_certificate(url: str) -> str:
    """Make a TLS url check the certificate.

    Without the option kombu checks none, and Celery's result backend refuses the url.
    """
    parts = urlsplit(url)
    if parts.scheme != "rediss" or "ssl_cert_reqs" in dict(parse_qsl(parts.query)):
        return url
    return f"{url}{'&' if parts.query else '?'}ssl_cert_reqs=CERT_REQUIRED"


def _credentials(env: Environment) -> str:
    user, password = env.text("REDIS_USERNAME"), env.secret("REDIS_PASSWORD")
    if not user and not password:
        return ""
    return f"{quote(user, safe='')}:{quote(password, safe='')}@"
