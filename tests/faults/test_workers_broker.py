"""A broker that is away, refuses, or delivers garbage: the worker stays and loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kombu.exceptions import OperationalError
from sqlalchemy import text

from relevo import config
from relevo.app import create_app
from relevo.drivers import driver_for
from relevo.drivers.contract import NewJob
from relevo.errors import DriverUnavailableError
from tests.support import servers
from tests.support.waits import eventually
from tests.support.workers import LEASE, Site, payload_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server:
    """A PostgreSQL of the test's own, which can be stopped and started again in its place."""

    def __init__(self, url: str) -> None:
        self.url = url
        with psycopg.connect(url) as connection:
            self.data = Path(connection.execute("SHOW data_directory").fetchone()[0])
        self.command, self.owner = (
            shlex.split((self.data / "postmaster.opts").read_text()),
            self.data.owner(),
        )

    def stop(self) -> None:
        """Cut every connection and end."""
        note = self.data / "postmaster.pid"
        os.kill(int(note.read_text().splitlines()[0]), signal.SIGINT)
        eventually(lambda: not note.exists())

    def start(self) -> contextlib.AbstractContextManager[None]:
        home = str(self.data.parent)
        ready = "ready to accept connections"
        owner = self.owner if os.getuid() == 0 else None
        return servers.running(self.command, home, ready=ready, owner=owner, end=signal.SIGQUIT)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with servers.postgresql() as url:
        driver_for(url).create_schema()
        yield Server(url)


def test_a_broker_away_for_longer_than_a_lease_costs_no_job_and_no_second_run(
    server: Server, tmp_path: Path
):
    """One job ends while the broker is away, one after it is back. Both were started once."""
    site = Site(server.url, tmp_path)
    gates = [tmp_path / "gate 0", tmp_path / "gate 1"]
    for number, gate in enumerate(gates):
        site.dispatch("hold", [number], str(gate))
    site.dispatch("work", range(2, 20))
    with site.worker("-c", "2") as worker:
        site.until(lambda: site.running() == {0, 1})
        server.stop()
        gates[0].touch()
        refused(site)
        time.sleep(2 * LEASE)  # how long the broker is away
        assert site.running() == {1}
        with server.start():
            site.until(lambda: len(site.ended) == 19)
            gates[1].touch()
            site.until(lambda: len(site.ended) == 20)
            site.until(site.empty)
            assert worker.stop() == 0
    assert set(site.started.values()) == {1}


def refused(site: Site) -> None:
    """The errors of the driver and of Celery while the broker is away."""
    with pytest.raises(DriverUnavailableError):
        site.dispatch("work", [99])
    app = create_app(
        "client", config.load({"QUEUE_RESULTS": "none"}, env_file=None), broker_url=site.url
    )
    with pytest.raises(OperationalError):
        app.send_task(
            "work", (99,), queue=site.queue, retry_policy={"max_retries": 1, "interval_start": 0.05}
        )
    app.close()


def message(**changes: Any) -> str:
    """A good message with `changes`: a dotted name is a path (`headers.task`), None removes."""
    made = json.loads(payload_of("work", "bad", [0], "q"))
    for path, value in changes.items():
        *folders, name = path.split("__")
        place = made
        for folder in folders:
            place = place[folder]
        place[name] = value
        if value is None:
            del place[name]
    return json.dumps(made)


BAD = {
    "nothing": "",
    "no JSON": "\x01\x02 \ufffd not JSON",
    "truncated": message()[:80],
    "ten megabytes of nonsense": "x" * 10_000_000,
    "nested deeper than a parser goes": "[" * 100_000,
    "a number": "7",
    "a list": "[]",
    "null": "null",
    "a message without a body": message(body=None),
    "a body that is a number": message(body=7),
    "a body that is no JSON": message(body="}{"),
    "a body of another shape": message(body="7"),
    "a body in an unknown encoding": message(properties__body_encoding="rot13"),
    "a body that is not what it says": message(properties__body_encoding="base64", body="%%%"),
    "properties that are a list": message(properties=[]),
    "headers that are a list": message(headers=[]),
    "no headers": message(headers=None),
    "no task": message(headers__task=None),
    "no id": message(headers__id=None),
    "an unknown task": message(headers__task="no.such.task"),
    "ten megabytes for an unknown task": message(
        headers__task="no.such.task", body="[" + "0," * 5_000_000 + "0]"
    ),
    "a task that is a list": message(headers__task=["work"]),
    "a time that is none": message(headers__eta="tomorrow"),
    "pickle": message(**{"content-type": "application/x-python-serialize"}),
    "an unknown content type": message(**{"content-type": "application/x-unknown"}),
}


def test_an_invalid_message_is_kept_as_failed_and_the_worker_goes_on(site: Site):
    # not what this is about: on a machine that stands still for seconds, a short one would end
    site.lease = 30.0
    ids = {name: f"{site.queue}/{number}" for number, name in enumerate(BAD)}
    for name, payload in BAD.items():
        site.driver.put([NewJob(site.queue, payload, ids[name])])
    site.dispatch("work", range(1000, 1010))
    site.ids |= dict(enumerate(ids.values()))
    with site.worker("-c", "1") as worker:
        site.until(lambda: len(site.ended) == 10)
        site.until(site.empty)
        assert worker.alive()
        assert worker.stop() == 0
    kept = {job.uuid: job.payload for job in site.failed()}
    assert [name for name, job_id in ids.items() if job_id not in kept] == []
    assert site.started.total() == 10


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_payload_of_random_bytes_is_kept_as_failed(site: Site):
    """SQLite stores any bytes; the column of a server takes only text."""
    site.dispatch("work", range(2))
    with site.driver.connections.engine.begin() as connection:
        connection.execute(
            text("UPDATE relevo_jobs SET payload = x'fffe00' WHERE job_id = :id"),
            {"id": site.ids[0]},
        )
    with site.worker("-c", "1"):
        site.until(lambda: 1 in site.ended and site.failed())
    assert [job.payload for job in site.failed()] == [r"\xff\xfe\x00"]
    assert site.started == {1: 1}
