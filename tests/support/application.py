"""The application on a database, a disk and a mail folder of a test's own; its jobs are recorded,
and run when asked.
"""

from __future__ import annotations

import dataclasses
import email
import email.policy
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from argon2 import PasswordHasher

import tasks
from app import settings
from app.models import User, session
from relevo import config
from relevo.database.engine import engine_for
from relevo.testing import fake
from tests.support.http_receiver import Receiver, receiving
from web import access, counting, create

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relevo.testing.fake import Fake


#: Argon2 takes its time on purpose; here it need not.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class Shop:
    """What a test holds in its hands."""

    folder: Path
    queue: Fake
    patch: pytest.MonkeyPatch

    def set(self, **values: str) -> None:
        """Settings of the application, from now on."""
        for name, value in values.items():
            self.patch.setenv(name, value)
        settings.application.cache_clear()

    def user(self, name: str = "Ada", **others: Any) -> User:
        return self.add(User(**{"name": name, "email": f"{name.lower()}@example.com", **others}))

    def add(self, row: Any) -> Any:
        with session() as db:
            db.add(row)
        return row

    def row(self, model: type, key: int) -> Any:
        with session() as db:
            return db.get(model, key)

    @property
    def mails(self) -> list[Any]:
        files = sorted((self.folder / "mail").glob("*.eml"))
        return [
            email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
            for file in files
        ]

    @property
    def subjects(self) -> list[str]:
        return [mail["Subject"] for mail in self.mails]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder of this test, in memory where there is some: nothing turns SQLite's fsyncs off."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="relevo-", dir=shared if shared.is_dir() else None
    ) as folder:
        yield Path(folder)


@pytest.fixture
def shop(tmp_path: Path, new_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    shutil.copy(new_database, tmp_path / "app.sqlite3")
    for name in ("REDIS_URL", "REDIS_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/app.sqlite3")
    monkeypatch.setenv("RELEVO_VAR_DIR", str(tmp_path))
    own = config.load(env_file=None)
    monkeypatch.setattr(tasks.app, "settings", dataclasses.replace(own, secret=b"s" * 32))
    settings.engine.cache_clear()
    settings.application.cache_clear()
    monkeypatch.setattr(access, "_passwords", CHEAP)
    with fake(app=tasks.app) as queue:
        yield Shop(tmp_path, queue, monkeypatch)
    counting.flush()  # nobody writes to it later, when it is gone
    engine_for(own.database_url).dispose()
    settings.engine.cache_clear()
    settings.application.cache_clear()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The API on a port of the loopback; each test gives it a database by its settings."""
    config = uvicorn.Config(create(), port=0, log_level="critical", lifespan="off")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = True
    thread.join()
