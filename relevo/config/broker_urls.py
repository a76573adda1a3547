"""The urls of the brokers, from what was set: absolute, complete, and refused here when nothing
could connect to them.

An error never shows a url that may hold a password; those of the libraries below do, so none of
them is passed on.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from relevo.config.environment import Environment, expected_url
from relevo.database.engine import resolve
from relevo.errors import SettingsError

_DATABASES = {"sqlite", "postgresql", "mysql", "mariadb"}
_DATABASE = "a sqlite, postgresql, mysql or mariadb url"


def database(env: Environment, default: Path) -> str:
    """DATABASE_URL with the Python driver named, and a SQLite file's path absolute: every process
    means one file.
    """
    given = env.text("DATABASE_URL") or f"sqlite:///{default}"
    url = _parse(given)
    if url.get_backend_name() not in _DATABASES:
        raise expected_url("DATABASE_URL", _DATABASE, given)
    _check_driver(url)
    return (_absolute_path(url) if url.get_backend_name() == "sqlite" else url).render_as_string(
        hide_password=False
    )


def broker(database_url: str) -> str:
    """The database's url as Celery's broker, without the Python driver we ship: kombu reads a + in
    its own way.
    """
    url = make_url(database_url)
    plain = url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)
    return plain if resolve(plain) == url else database_url


def sqs(env: Environment) -> str:
    """SQS_URL; a bare sqs:// leaves the credentials and the region to boto3, which has its own
    places for them.
    """
    given = env.text("SQS_URL", "sqs://")
    if not given.startswith("sqs://"):
        raise expected_url("SQS_URL", "an sqs:// url", given)
    return given


def redis(env: Environment) -> str:
    """REDIS_URL, or the one that the other REDIS_ settings make; redis://127.0.0.1:6379/0 when none
    is set.
    """
    given = env.text("REDIS_URL")
    if given:
        return ";".join(
            _require_certificate(_check_redis_url(url, given)) for url in _split_sentinels(given)
        )
    host = env.host("REDIS_HOST", "127.0.0.1")
    port, number = env.whole("REDIS_PORT", 6379, 1, 65535), env.whole("REDIS_DB", 0, 0, 1_000_000)
    return f"redis://{_credentials(env)}{f'[{host}]' if ':' in host else host}:{port}/{number}"


def _parse(given: str) -> URL:
    try:
        return resolve(given)
    except (ArgumentError, ValueError):
        raise expected_url("DATABASE_URL", _DATABASE, given) from None


def _check_driver(url: URL) -> None:
    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except (ImportError, NoSuchModuleError, AttributeError):
        raise SettingsError(
            f"DATABASE_URL names {url.drivername}, which isn't installed: "
            f"pip install 'relevo[{_extra(url)}]', or install that driver"
        ) from None
    if dialect.is_async:
        raise SettingsError(
            f"expected DATABASE_URL to name a blocking driver, got {url.drivername!r}, an asyncio one"
        )


def _extra(url: URL) -> str:
    return "postgresql" if url.get_backend_name() == "postgresql" else "mysql"


def _absolute_path(url: URL) -> URL:
    if not url.database or url.database == ":memory:":
        raise SettingsError(
            "expected DATABASE_URL to name a SQLite file, got a database in memory: "
            "processes can't share one"
        )
    if url.database.startswith("file:"):  # SQLite's own url, already as its writer wants it
        return url
    path = str(Path(url.database).absolute())
    if ";" in path or "?" in path:
        raise SettingsError(
            f"expected DATABASE_URL to be a SQLite path without ; and ? (they end a url), got {path!r}"
        )
    return url.set(database=path)


def sentinel_master(env: Environment, redis_url: str) -> str | None:
    """REDIS_SENTINEL_MASTER: the name under which the Sentinels of REDIS_URL know the master; else
    None.
    """
    name = env.text("REDIS_SENTINEL_MASTER")
    if not redis_url.startswith("sentinel://"):
        return None
    if not name:
        raise SettingsError(
            "expected REDIS_SENTINEL_MASTER to be the master's name in the Sentinels' configuration, "
            "got nothing: a sentinel:// url needs it"
        )
    return name


def _split_sentinels(given: str) -> list[str]:
    """The Sentinels of a url; any other is one."""
    return given.split(";") if given.startswith("sentinel://") else [given]


def _check_redis_url(url: str, given: str) -> str:
    try:
        fits = _is_redis_url(urlsplit(url), sentinel=given.startswith("sentinel://"))
    except ValueError:
        fits = False
    if not fits or ";" in url:
        raise expected_url(
            "REDIS_URL",
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
    """Without it kombu checks no certificate, and Celery's result backend refuses the url."""
    parts = urlsplit(url)
    if parts.scheme != "rediss" or "ssl_cert_reqs" in dict(parse_qsl(parts.query)):
        return url
    return f"{url}{'&' if parts.query else '?'}ssl_cert_reqs=CERT_REQUIRED"


def _credentials(env: Environment) -> str:
    user, password = env.text("REDIS_USERNAME"), env.secret("REDIS_PASSWORD")
    if not user and not password:
        return ""
    return f"{quote(user, safe='')}:{quote(password, safe='')}@"
