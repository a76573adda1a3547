"""The application's stories with real workers: asked for over HTTP, done by a prefork pool, told by mail."""

from __future__ import annotations

import contextlib
import dataclasses
import email
import email.policy
import io
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from relevo.drivers.database.driver import DatabaseDriver
from tests import servers
from tests.flow.project import ROOT
from tests.pictures import saved, scene
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

QUEUES = "critical,high,transactional,default,webhooks,imports,exports,marketing,low,long"


@dataclass
class Company:
    """A folder, a database, a worker, an API, and an administrator's client."""

    folder: Path
    environment: dict[str, str]
    client: httpx.Client
    workers: list[subprocess.Popen[bytes]] = dataclasses.field(default_factory=list)

    def start_worker(self) -> subprocess.Popen[bytes]:
        name = f"w{len(self.workers)}"
        command = ["celery", "-A", "tasks", "worker", "-Q", QUEUES, "-c", "2", "-n", f"{name}@here", "-l", "INFO"]
        worker = self.start(name, "-m", *command)
        self.workers.append(worker)
        eventually(lambda: " ready." in self.log(name) or worker.poll() is not None, lambda: self.log(name))
        assert worker.poll() is None, self.log(name)
        return worker

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def logs(self) -> str:
        return "\n".join(self.log(f"w{number}")[-4000:] for number in range(len(self.workers)))

    def until(self, path: str, holds: Any) -> Any:
        """Look at a route until `holds` of what it answers."""
        told: dict[str, Any] = {}

        def look() -> bool:
            answer = self.client.get(path)
            assert answer.status_code == 200, answer.text
            told.update(answer.json())
            return bool(holds(told))

        eventually(look, lambda: f"{path}: {told}\n{self.logs()}")
        return told

    def subjects(self) -> list[str]:
        files = sorted((self.folder / "mail").glob("*.eml"))
        return [email.message_from_bytes(file.read_bytes(), policy=email.policy.default)["Subject"] for file in files]

    def until_mailed(self, subject: str, times: int = 1) -> None:
        eventually(lambda: self.subjects().count(subject) >= times, lambda: f"{self.subjects()}\n{self.logs()}")
        assert self.subjects().count(subject) == times


@pytest.fixture(scope="module", params=["sqlite"])
def company(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp(f"company_{request.param}")
    url = f"sqlite:///{folder}/relevo.db"
    port = servers.free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", "QUEUE_", "RELEVO_"))},
        "DATABASE_URL": url, "RELEVO_VAR_DIR": str(folder), "QUEUE_CONNECTION": "database", "PYTHONPATH": str(ROOT),
        "APP_URL": f"http://127.0.0.1:{port}", "APP_REQUESTS_A_MINUTE": "100000", "APP_PRIVATE_WEBHOOKS": "yes",
        "QUEUE_RETRY_AFTER": "2",
    }  # fmt: skip
    DatabaseDriver(url).create_schema()
    command = [sys.executable, "-m", "app.user", "Root", "root@example.com", "--admin"]
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    with httpx.Client(base_url=environment["APP_URL"], headers=headers, timeout=30) as client:
        opened = Company(folder, environment, client)
        api = opened.start("api", "-m", "uvicorn", "app.http:create", "--factory", "--port", str(port))
        try:
            eventually(lambda: _answers(client), lambda: opened.log("api"))
            opened.start_worker()
            yield opened
        finally:
            for process in (*opened.workers, api):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _answers(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/ready").status_code == 200
    return False


def test_pictures_as_a_batch_with_one_that_is_broken(company):
    picture = saved(scene(300, 200)).getvalue()
    ids = [company.client.post("/api/files", params={"name": f"{n}.jpg"}, content=data).json()["id"]
           for n, data in enumerate([picture, picture, picture[:2000]])]  # fmt: skip
    batch = company.client.post("/api/batch-process-files", json={"file_ids": ids, "sizes": {"icon": 64}}).json()["id"]
    told = company.until(f"/api/batch/{batch}/status", lambda status: status["finished"])
    assert (told["total"], told["processed"], told["pending"], told["failed"], told["percent"]) == (3, 3, 0, 1, 100)
    company.until_mailed("2 of 3 files processed")
    assert company.client.get(f"/api/files/{ids[0]}").json()["versions"][0]["width"] == 64


def test_an_import_whose_worker_is_killed_in_its_midst_is_whole_in_the_end(company):
    rows = 3000
    text = io.StringIO()
    text.write("name,email\n")
    for number in range(rows):
        text.write(f"Guest {number},{f'g{number}@example.com' if number % 100 == 0 else 'bad'}\n")
    said = company.client.post("/api/imports", params={"name": "guests.csv"}, content=text.getvalue().encode()).json()
    path = f"/api/imports/{said['id']}"
    company.until(f"{path}/rows?limit=1", lambda page: page["items"])  # a chunk is done, others aren't
    worker = company.workers[-1]
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    company.start_worker()
    told = company.until(path, lambda row: row["state"] == "completed")
    assert (told["good"], told["bad"], told["chunks"]) == (rows // 100, rows - rows // 100, 6)
    eventually(lambda: sum("Welcome" in subject for subject in company.subjects()) == rows // 100, company.logs)
    company.until_mailed(f"Import guests.csv: {told['good']} good, {told['bad']} bad")


def test_a_report_and_an_event_with_its_export(company):
    report = company.client.post("/api/generate-report", json={"type": "system-health", "format": "pdf"}).json()["id"]
    given = {"name": "July", "starts_at": "2030-07-01T10:00:00Z", "capacity": 1}
    event = company.client.post("/api/events", json=given).json()["id"]
    for name in "AB":
        company.client.post(f"/api/events/{event}/attendees", json={"name": name, "email": f"{name}@x.org"})
    company.client.post(f"/api/events/{event}/process")
    told = company.until(f"/api/events/{event}", lambda row: row["processed_at"])
    assert told["statistics"] == {"attendees": 2, "confirmed": 1, "waiting": 1, "capacity": 1, "full": True}
    told = company.until(f"/api/reports/{report}", lambda row: row["state"] != "pending")
    assert httpx.get(told["link"]).content.startswith(b"%PDF-")
    company.until_mailed("Your system-health report is ready")
    company.until_mailed("Your export of attendees is ready")
