"""Every setting, read once into one frozen value: `load()` at the start, then `app.settings`.

A bad value or an unknown name stops the start with one line that names the setting and shows what
was expected. No other module of Relevo reads the environment. `docs/settings.md` explains the
settings, `.env.example` is a file to copy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from relevo.config import broker_urls, dashboard, environment, own_connections, services
from relevo.config.dashboard import DashboardSettings
from relevo.config.environment import Environment
from relevo.config.own_connections import OwnConnection
from relevo.errors import SettingsError, did_you_mean

#: Every name that can be set.
NAMES = (
    "QUEUE_CONNECTION",
    "QUEUE_CONNECTIONS",
    "QUEUE_RETRY_AFTER",
    "QUEUE_MAX_TRIES",
    "QUEUE_BACKOFF",
    "QUEUE_RESULTS",
    "DATABASE_URL",
    "REDIS_URL",
    "REDIS_SENTINEL_MASTER",
    "REDIS_HOST",
    "REDIS_PORT",
    "REDIS_USERNAME",
    "REDIS_PASSWORD",
    "REDIS_DB",
    "SQS_URL",
    "SQS_RETRY_AFTER",
    "RELEVO_VAR_DIR",
    "FILES_DISK_ROOT",
    "RELEVO_HISTORY",
    "RELEVO_KEEP_COMPLETED",
    "RELEVO_KEEP_FAILED",
    "RELEVO_KEEP_METRICS",
    *services.NAMES,
    *dashboard.NAMES,
)

CONNECTIONS = (
    "sync",
    "database",
    "redis",
    "sqs",
    "high-priority",
    "long-running",
    "redis-long",
    "redis-priority",
)
RESULTS = ("database", "redis", "none")
HISTORY = ("all", "failed", "none")
HOUR, DAY = 3600, 86_400

# A socket that is silent for this long counts as dead. Without this limit a worker whose peer has
# vanished would wait for ever.
REDIS_SOCKET_TIMEOUT_SECONDS = 10
REDIS_CONNECT_TIMEOUT_SECONDS = 5
REDIS_HEALTH_CHECK_SECONDS = 25


@dataclass(frozen=True, slots=True)
class Connection:
    """A broker, its default queue, and the lease of its jobs."""

    #: The name by which QUEUE_CONNECTION or a dispatch chooses the connection.
    name: str
    #: "sync" (run at once, no broker), "database", "redis" or "sqs".
    driver: str
    #: The broker's url for Celery, with its password: never show it.
    url: str = field(repr=False)
    #: The queue of a job whose task and dispatch name no queue.
    queue: str
    #: The lease in seconds: after it, another worker runs what a dead worker held. A living worker
    #: extends it (not on sqs).
    retry_after: float
    #: The master's name at the Sentinels, if `url` names Sentinels.
    sentinel_master: str | None = None

    @property
    def transport_options(self) -> dict[str, Any]:
        """The value of Celery's `broker_transport_options`."""
        if self.driver == "sqs":
            return {"visibility_timeout": int(self.retry_after)}
        if self.driver != "redis":
            return {"lease": self.retry_after}
        return {
            "lease": self.retry_after,
            "socket_timeout": REDIS_SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": REDIS_CONNECT_TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": REDIS_HEALTH_CHECK_SECONDS,
            **({"master_name": self.sentinel_master} if self.sentinel_master else {}),
        }


class Connections(Mapping[str, Connection]):
    """The connections by name. Immutable, and unlike a mapping proxy it can be pickled."""

    def __init__(self, connections: Iterable[Connection]) -> None:
        self._named = {connection.name: connection for connection in connections}

    def __getitem__(self, name: str) -> Connection:
        return self._named[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, with defaults filled in. Paths are absolute, durations are seconds."""

    #: QUEUE_CONNECTION: the connection of a job whose dispatch names none.
    queue_connection: str
    #: All connections, by name.
    connections: Mapping[str, Connection]
    #: QUEUE_MAX_TRIES: attempts of a task that sets neither `tries` nor Celery's `max_retries`.
    queue_max_tries: int
    #: QUEUE_BACKOFF: waits between attempts, for a task that sets none; the last one repeats.
    queue_backoff: tuple[float, ...]
    #: QUEUE_RETRY_AFTER: the lease of the connections without a lease of their own.
    queue_retry_after: float
    #: QUEUE_RESULTS as Celery's `result_backend`, None for no results.
    result_backend: str | None = field(repr=False)
    #: DATABASE_URL: the jobs of the database connection, results, and the store.
    database_url: str = field(repr=False)
    #: REDIS_URL, or the url that REDIS_HOST and the other REDIS_ settings make.
    redis_url: str = field(repr=False)
    #: RELEVO_VAR_DIR: the folder for all files that have no other place.
    var_dir: Path
    #: FILES_DISK_ROOT: the folder of the local disk.
    storage: Path
    #: FILES_DISK: the disk of new files: "local" or "s3".
    files_disk: str
    #: FILES_DISK_BUCKET: the bucket of the disk "s3".
    s3: services.S3Settings | None
    #: MAIL_URL, MAIL_FROM: the mail server, and the sender of mail.
    mail: services.MailSettings
    #: ALERT_URLS, ALERT_CRITICAL_URLS: where alerts about failed jobs go.
    alerts: services.AlertSettings
    #: RELEVO_SECRET: the signing key, or the path of its file, for `services.read_secret`.
    secret: bytes | Path = field(repr=False)
    #: RELEVO_HISTORY: the jobs that history keeps: "all", "failed" (and cancelled) or "none" (no
    #: metrics either).
    history: str
    #: RELEVO_KEEP_COMPLETED: how long history keeps a completed or cancelled job.
    keep_completed: float
    #: RELEVO_KEEP_FAILED: how long history keeps a failed job. (The failed store keeps it until it
    #: is forgotten.)
    keep_failed: float
    #: RELEVO_KEEP_METRICS: how long the counts per minute are kept.
    keep_metrics: float
    #: The dashboard: its address, its users, and what it hides.
    dashboard: DashboardSettings

    @property
    def result_transport_options(self) -> dict[str, Any]:
        """The value of Celery's `result_backend_transport_options`."""
        master = self.connections["redis"].sentinel_master
        return {"master_name": master} if master and self.result_backend == self.redis_url else {}

    @property
    def connection(self) -> Connection:
        """The connection that QUEUE_CONNECTION chooses."""
        return self.connections[self.queue_connection]

    def connection_named(self, name: str) -> Connection:
        """Return the connection that a dispatch names. Raises SettingsError for an unknown name."""
        if name not in self.connections:
            raise SettingsError(
                f"no connection named {name!r}{did_you_mean(name, self.connections)}"
            )
        return self.connections[name]


def load(
    environ: Mapping[str, str] | None = None,
    env_file: Path | None = Path(".env"),
    others: Iterable[str] = (),
    connections: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Read the settings. Raises SettingsError for the first bad one.

    `environ` is the process environment unless given. `env_file` gives the settings that `environ`
    doesn't (None: no file). `others` are names in the file that belong to other programs, or
    patterns of them (`STRIPE_*`). `connections` are connections of one's own, or changes of the
    others: name -> url, queue, lease, master (relevo/config/own_connections.py).
    """
    env = environment.read(NAMES, os.environ if environ is None else environ, env_file, others)
    var_dir = env.folder("RELEVO_VAR_DIR", Path("var"))
    database_url = broker_urls.database(env, var_dir / "relevo.sqlite3")
    redis_url = broker_urls.redis(env)
    own = own_connections.read(env, connections, CONNECTIONS)
    names = tuple(dict.fromkeys((*CONNECTIONS, *own)))
    chosen = env.choice("QUEUE_CONNECTION", _default_broker(env), names)
    retry_after = env.seconds("QUEUE_RETRY_AFTER", 30)
    urls = {
        "sync": "memory://",
        "database": broker_urls.broker(database_url),
        "redis": redis_url,
        "sqs": broker_urls.sqs(env),
    }
    named = _connections(env, chosen, retry_after, urls, own)
    _check_boto3(named[chosen])
    return Settings(
        queue_connection=chosen,
        connections=named,
        queue_max_tries=env.whole("QUEUE_MAX_TRIES", 1, 1, 1_000_000),
        queue_backoff=env.waits("QUEUE_BACKOFF", (10, 30, 60)),
        queue_retry_after=retry_after,
        result_backend=_result_backend(env, named[chosen], database_url, redis_url),
        database_url=database_url,
        redis_url=redis_url,
        var_dir=var_dir,
        storage=env.folder("FILES_DISK_ROOT", var_dir / "files"),
        files_disk=env.choice("FILES_DISK", "local", services.DISKS),
        s3=services.s3(env),
        mail=services.mail(env, var_dir),
        alerts=services.alerts(env),
        secret=services.secret(env, var_dir),
        history=env.choice("RELEVO_HISTORY", "all", HISTORY),
        keep_completed=env.seconds("RELEVO_KEEP_COMPLETED", HOUR),
        keep_failed=env.seconds("RELEVO_KEEP_FAILED", 7 * DAY),
        keep_metrics=env.seconds("RELEVO_KEEP_METRICS", 7 * DAY),
        dashboard=dashboard.read(env),
    )


def _default_broker(env: Environment) -> str:
    return "redis" if env.text("REDIS_URL") or env.text("REDIS_HOST") else "database"


def _connections(
    env: Environment,
    chosen: str,
    retry_after: float,
    urls: Mapping[str, str],
    own: Mapping[str, OwnConnection],
) -> Connections:
    """Build all connections.

    `high-priority`, `long-running` and a connection of one's own without a url are other queues of
    the chosen broker; if one of these is itself chosen, of the default broker.
    """
    # kombu's SQS transport can't extend a lease, so it has to be longer than the longest job.
    sqs_retry_after = env.seconds("SQS_RETRY_AFTER", 1800)
    leases = dict.fromkeys(urls, retry_after) | {"sqs": sqs_retry_after}
    masters = {"redis": broker_urls.sentinel_master(env, urls["redis"])}
    ready = {
        name: Connection(name, name, url, "default", leases[name], masters.get(name))
        for name, url in urls.items()
    }
    for each in own.values():
        if each.url is not None and each.driver is not None:
            ready[each.name] = Connection(
                each.name, each.driver, each.url, "default", leases[each.driver], each.master
            )
    broker = chosen if chosen in ready else _broker_of(env, chosen)
    others = [
        ("high-priority", broker, "high", 30),
        ("long-running", broker, "long", 300),
        ("redis-long", "redis", "long", 300),
        ("redis-priority", "redis", "high", 60),
        *(
            (name, broker, "default", retry_after)
            for name in own
            if name not in ready and name not in CONNECTIONS
        ),
    ]
    for name, base, queue, lease in others:
        retry = sqs_retry_after if ready[base].driver == "sqs" else lease
        ready[name] = replace(ready[base], name=name, queue=queue, retry_after=retry)
    ready |= {name: _changed(ready[name], each) for name, each in own.items()}
    return Connections(ready[name] for name in dict.fromkeys((*CONNECTIONS, *own)))


def _broker_of(env: Environment, chosen: str) -> str:
    return "redis" if chosen in {"redis-long", "redis-priority"} else _default_broker(env)


def _changed(connection: Connection, own: OwnConnection) -> Connection:
    return replace(
        connection,
        queue=connection.queue if own.queue is None else own.queue,
        retry_after=connection.retry_after if own.lease is None else own.lease,
    )


def _check_boto3(connection: Connection) -> None:
    if connection.driver == "sqs" and not find_spec("boto3"):
        raise SettingsError(
            f"QUEUE_CONNECTION={connection.name} needs boto3: pip install 'kombu[sqs]'"
        )


def _result_backend(
    env: Environment, connection: Connection, database_url: str, redis_url: str
) -> str | None:
    # Another Redis than that of REDIS_URL keeps its jobs only.
    default = "redis" if connection.url == redis_url else "database"
    results = env.choice("QUEUE_RESULTS", default, RESULTS)
    return {"database": f"db+{database_url}", "redis": redis_url, "none": None}[results]
