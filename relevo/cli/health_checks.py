"""The checks of `celery -A tasks check`. Each yields findings: the part, its state, what to do.

They change nothing, except that a small file is written to the disk and deleted.
"""

from __future__ import annotations

import io
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from relevo import clock
from relevo.cli.context import driver_of
from relevo.cli.output import some
from relevo.config import Settings
from relevo.database import schema
from relevo.database.connections import Connections
from relevo.disks import disk_for
from relevo.drivers.contract import Driver
from relevo.errors import DriverError
from relevo.mail import sending
from relevo.schedule import operations
from relevo.store.store import store_for

OK, WARNING, WRONG = "ok", "warning", "wrong"
# Leases and delays use the broker's clock. If this machine's differs by more, people misread times.
MOST_CLOCK_SKEW_SECONDS = 5.0
# Free space is too little if it is less than both.
LEAST_SHARE, LEAST_BYTES = 0.05, 2 * 1024**3
OLDEST_REDIS = (6, 2)
UPGRADE = "celery -A tasks schema upgrade"


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` is the part that was checked, `state` one of OK, WARNING and WRONG, `found` a text for
    people; `todo` says what to do, if anything.
    """

    what: str
    state: str
    found: str
    todo: str | None = None


def settings(context: click.Context) -> Iterator[Finding]:
    """The settings in use. Invalid ones would have stopped the command before."""
    given: Settings = context.obj.app.settings
    connection, flower = given.connection, given.dashboard.flower
    yield Finding(
        "settings",
        OK,
        f"connection {connection.name!r} ({connection.driver}), queue {connection.queue!r}, "
        f"lease {connection.retry_after:g} s",
    )
    if not flower.basic_auth and flower.address not in ("127.0.0.1", "localhost", "::1"):
        yield Finding(
            "dashboard",
            WARNING,
            f"it listens on {flower.address} and has no password",
            "set FLOWER_BASIC_AUTH, or FLOWER_ADDRESS=127.0.0.1",
        )


def broker(context: click.Context) -> Iterator[Finding]:
    """The broker answers, its clock is right, no queue is paused, and a Redis is durable."""
    connection = context.obj.app.settings.connection
    if connection.driver in ("sync", "sqs"):
        yield Finding("broker", OK, f"the connection {connection.driver!r} has nothing to check")
        return
    driver = driver_of(context)
    paused = driver.paused()
    yield Finding("broker", OK, f"{driver.name} answers")
    skew = driver.now() - clock.now()
    if abs(skew) > MOST_CLOCK_SKEW_SECONDS:
        yield Finding(
            "broker",
            WARNING,
            f"its clock and this machine's are {abs(skew):.0f} s apart",
            "let both follow a time server (NTP)",
        )
    for queue in sorted(paused):
        yield Finding(
            "queues", WARNING, f"{queue!r} is paused", f"celery -A tasks queues resume {queue}"
        )
    if driver.name == "redis":
        yield from _redis(driver)


def _redis(driver: Any) -> Iterator[Finding]:
    info = driver.client.info()
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if version < OLDEST_REDIS:
        yield Finding(
            "broker",
            WRONG,
            f"Redis {info['redis_version']}",
            "Relevo needs Redis 6.2 or later, or Valkey",
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield Finding(
            "broker",
            WRONG,
            f"maxmemory-policy is {policy}: Redis may throw jobs away",
            "set maxmemory-policy noeviction in redis.conf (docs/redis.md)",
        )
    if not info.get("aof_enabled"):
        yield Finding(
            "broker",
            WARNING,
            "appendonly is off: a restart of Redis loses the jobs since its last snapshot",
            "set appendonly yes in redis.conf (docs/redis.md)",
        )


def database(context: click.Context) -> Iterator[Finding]:
    """The store's database, and the broker's if it is another one: each answers and has the tables
    that this code expects.
    """
    app = context.obj.app
    found: dict[Any, Connections] = {}
    store = store_for(app.settings.database_url)
    found[store.url] = store
    if app.settings.connection.driver == "database":
        driver: Any = driver_of(context)
        found.setdefault(driver.connections.url, driver.connections)
    for connections in found.values():
        name = connections.url.render_as_string(hide_password=True)
        version = connections.read(schema.version)
        if version == schema.NEWEST:
            yield Finding("database", OK, f"{name}: tables of version {version}")
        else:
            yield Finding(
                "database",
                WRONG,
                f"{name}: tables of version {version or 'none'}, this code's are of"
                f" {schema.NEWEST}",
                UPGRADE,
            )


def migrations(context: click.Context) -> Iterator[Finding]:
    """The application's own tables, if there is an `alembic.ini` in the working directory."""
    if not Path("alembic.ini").is_file():
        return
    # This import takes a third of a second, and not every application uses Alembic.
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    wanted = set(ScriptDirectory.from_config(Config("alembic.ini")).get_heads())
    store = store_for(context.obj.app.settings.database_url)
    there = set(
        store.read(lambda connection: MigrationContext.configure(connection).get_current_heads())
    )
    if there == wanted:
        yield Finding(
            "migrations",
            OK,
            f"the application's tables are at {', '.join(sorted(wanted)) or 'none'}",
        )
    else:
        found, needed = ", ".join(sorted(there)) or "none", ", ".join(sorted(wanted))
        yield Finding(
            "migrations",
            WRONG,
            f"the application's tables are at {found}, its code's at {needed}",
            "alembic upgrade head",
        )


def results(context: click.Context) -> Iterator[Finding]:
    """The result backend answers."""
    app = context.obj.app
    if app.settings.result_backend is None or app.conf.task_always_eager:
        yield Finding("results", OK, "none are kept")
        return
    app.backend.get_task_meta("relevo-check")
    yield Finding("results", OK, f"{type(app.backend).__name__} answers")


def disks(context: click.Context) -> Iterator[Finding]:
    """A file can be written, read and deleted, and there is free space."""
    given: Settings = context.obj.app.settings
    disk, name, content = (
        disk_for(given, given.files_disk),
        f"relevo-check-{secrets.token_hex(8)}",
        b"relevo",
    )
    try:
        disk.put(name, io.BytesIO(content))
        with disk.open(name) as file:
            same = file.read() == content
    finally:
        disk.delete(name)
    became = (
        "a file was written, read and deleted" if same else "what was read is not what was written"
    )
    yield Finding("disks", OK if same else WRONG, f"{given.files_disk}: {became}")
    there = next(folder for folder in (given.var_dir, *given.var_dir.parents) if folder.exists())
    usage = shutil.disk_usage(there)
    if usage.free < LEAST_BYTES and usage.free < LEAST_SHARE * usage.total:
        yield Finding(
            "disks",
            WARNING,
            f"{given.var_dir}: {usage.free / 1024**2:.0f} MB are free",
            "make room: a full disk stops the SQLite broker and the store",
        )


def mail(context: click.Context) -> Iterator[Finding]:
    """The mail server accepts the login; no mail is sent."""
    given = context.obj.app.settings.mail
    sending.probe(given)
    kept = f"it is kept in {given.folder}, since MAIL_URL is not set"
    yield Finding("mail", OK, f"{given.host}:{given.port} lets us in" if given.host else kept)


def workers(context: click.Context) -> Iterator[Finding]:
    """Workers answer, and take jobs from every queue that has some."""
    app = context.obj.app
    if app.settings.connection.driver in ("sync", "sqs"):
        return
    driver: Driver = driver_of(context)
    try:
        waiting = {queue: driver.sizes(queue).pending for queue in driver.queues()}
    except DriverError:
        return  # `broker` has reported it
    answers = app.control.inspect(timeout=1.0).active_queues() or {}
    served = {queue["name"] for queues in answers.values() for queue in queues or ()}
    if answers:
        yield Finding(
            "workers", OK, f"{len(answers)} answer, on the queues {', '.join(sorted(served))}"
        )
    else:
        yield Finding("workers", WARNING, "none answers", "start one: celery -A tasks worker")
    for queue, jobs in waiting.items():
        if answers and jobs and queue not in served:
            yield Finding(
                "workers",
                WARNING,
                f"{some(jobs, 'job')} waiting on {queue!r}, and no worker takes from it",
                f"start one with -Q {queue}, or correct the name where they are dispatched",
            )


def schedule(context: click.Context) -> Iterator[Finding]:
    """The entries of beat_schedule can be dispatched, and a beat dispatches them."""
    app = context.obj.app
    app.loader.import_default_modules()
    app.finalize()  # before that, entries may be missing
    if app.settings.connection.driver == "sync" or not app.conf.beat_schedule:
        return
    try:
        found = operations.views(app)
    except DriverError:
        return  # `database` has reported it
    missed = [view.entry.name for view in found if view.overdue or not view.known]
    if missed:
        yield Finding(
            "schedule",
            WARNING,
            f"no beat has come for {some(len(missed), 'run')}, the first is of {missed[0]!r}",
            "start one: celery -A tasks beat",
        )
    else:
        yield Finding("schedule", OK, f"nothing is overdue ({len(found)} in beat_schedule)")


ALL = (settings, broker, database, migrations, results, disks, mail, workers, schedule)
