"""A company that runs on the application: a database, a broker, the API, a worker, an
administrator, and a server in place of the rest of the internet.
"""

from __future__ import annotations

import contextlib
import dataclasses
import email
import email.policy
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg

from app.models import schema
from relevo.database.engine import engine_for
from relevo.disks import Links
from relevo.drivers.database.driver import DatabaseDriver
from tests.support import servers
from tests.support.http_receiver import Receiver, receiving
from tests.support.programs import APPLICATION, ROOT, Process, run, start
from tests.support.waits import LONG, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

QUEUES = "critical,high,transactional,default,webhooks,imports,exports,marketing,low,long"
SECRET = "s" * 40


@dataclass
class Company:
    """A folder, a database, workers, an API, an administrator's client, and a server for outgoing
    requests.
    """

    folder: Path
    environment: dict[str, str]
    outside: Receiver
    client: httpx.Client
    queues: str = QUEUES
    workers: list[Process] = dataclasses.field(default_factory=list)

    # --- asking -----------------------------------------------------------------------------------
    def post(self, path: str, **said: Any) -> dict[str, Any]:
        answer = self.client.post(path, **said)
        assert answer.status_code in {201, 202}, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def upload(self, name: str, data: bytes) -> int:
        return int(self.post("/api/files", params={"name": name}, content=data)["id"])

    def until(self, path: str, holds: Any) -> Any:
        """Ask a route until `holds` is true of its answer."""
        told: dict[str, Any] = {}

        def look() -> bool:
            answer = self.client.get(path)
            assert answer.status_code == 200, answer.text
            told.update(answer.json())
            return bool(holds(told))

        eventually(look, lambda: f"{path}: {told}\n{self.logs()}")
        return told

    def expired(self, link: str) -> str:
        """The same link, expired."""
        path = httpx.URL(link).path.removeprefix("/files/")
        return Links(f"{self.environment['APP_URL']}/files", SECRET.encode()).make(path, -1)

    # --- mail -------------------------------------------------------------------------------------
    def mails(self) -> list[Any]:
        files = sorted((self.folder / "mail").glob("*.eml"))
        return [
            email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
            for file in files
        ]

    def subjects(self) -> list[str]:
        return [mail["Subject"] for mail in self.mails()]

    def until_mailed(self, subject: str) -> str:
        """Wait for the one mail; returns its text."""
        eventually(lambda: subject in self.subjects(), lambda: f"{self.subjects()}\n{self.logs()}")
        [text] = [
            mail.get_body(("plain",)).get_content()
            for mail in self.mails()
            if mail["Subject"] == subject
        ]
        return str(text)

    def mailed_link(self, subject: str) -> str:
        """The first link to a file in a mail."""
        return re.findall(r"\S+/files/\S+", self.until_mailed(subject))[0]

    # --- processes --------------------------------------------------------------------------------
    def start_worker(self) -> None:
        name = f"w{len(self.workers)}"
        command = [
            "celery",
            "-A",
            "tasks",
            "worker",
            "-Q",
            self.queues,
            "-c",
            "2",
            "-n",
            f"{name}@here",
            "-l",
            "INFO",
        ]
        self.workers.append(self.start(name, "-m", *command))

    def wait_ready(self) -> None:
        name, worker = f"w{len(self.workers) - 1}", self.workers[-1]
        eventually(
            lambda: " ready." in self.log(name) or worker.poll() is not None, lambda: self.log(name)
        )
        assert worker.poll() is None, self.log(name)

    def kill_worker(self) -> None:
        """Kill the worker's main process and children with -9, and start another worker."""
        os.killpg(self.workers[-1].pid, signal.SIGKILL)
        self.workers[-1].wait()
        self.start_worker()

    def start(self, name: str, *command: str) -> Process:
        with (self.folder / f"{name}.log").open("wb") as log:
            return start(*command, environ=self.environment, output=log, modules=APPLICATION)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def logs(self) -> str:
        return "\n".join(self.log(f"w{number}")[-4000:] for number in range(len(self.workers)))


@contextlib.contextmanager
def company(folder: Path, database: str, queues: str = QUEUES, **broker: str) -> Iterator[Company]:
    """A company on these servers with everything running. Its worker works on these queues."""
    DatabaseDriver(database).create_schema()
    schema.upgrade(engine_for(database))
    port = servers.free_port()
    with receiving() as outside:
        kept = {
            name: os.environ[name]
            for name in os.environ
            if not name.startswith(("REDIS_", "QUEUE_", "RELEVO_"))
        }
        environment = {
            **kept,
            "DATABASE_URL": database,
            "RELEVO_VAR_DIR": str(folder),
            "PYTHONPATH": str(ROOT),
            "RELEVO_SECRET": SECRET,
            "APP_URL": f"http://127.0.0.1:{port}",
            "APP_REQUESTS_A_MINUTE": "100000",
            "APP_PRIVATE_WEBHOOKS": "yes",
            "APP_CASES_URL": f"{outside.url}/cases",
            "APP_PAYMENTS_URL": f"{outside.url}/payments",
            "QUEUE_RETRY_AFTER": "2",
            **broker,
        }
        with httpx.Client(base_url=environment["APP_URL"], timeout=LONG, verify=False) as client:
            opened = Company(folder, environment, outside, client, queues)
            api = opened.start(
                "api", "-m", "uvicorn", "web:create", "--factory", "--port", str(port)
            )
            opened.start_worker()
            try:
                command = ["-m", "web.user", "Root", "root@example.com", "--admin"]
                made = run(*command, environ=environment, modules=APPLICATION)
                assert made.returncode == 0, made.stderr
                client.headers["Authorization"] = f"Bearer {made.stdout.strip()}"
                eventually(lambda: _answers(client), lambda: opened.log("api"))
                opened.wait_ready()
                yield opened
            finally:
                for process in (*opened.workers, api):
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                engine_for(database).dispose()


def _answers(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/ready").status_code == 200
    return False


@contextlib.contextmanager
def own_database(server: str, name: str) -> Iterator[str]:
    """A new database of this name on a PostgreSQL. It is dropped afterwards."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield server.rpartition("/")[0] + f"/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
