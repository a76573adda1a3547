"""The application on a database, a disk and a mail folder of a test's own; its jobs are recorded,
and run when asked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import email
import email.policy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from argon2 import PasswordHasher

import tasks
from app import settings
from app.models import User, session
from relevo import config
from relevo.database.engine import engine_for
from relevo.testing import fake
from web import access, request_counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relevo.testing.fake_queue import Fake


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


@contextlib.contextmanager
def shop_in(folder: Path, new_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """The application with its database, a copy of `new_database`, and its files in `folder`."""
    shutil.copy(new_database, folder / "app.sqlite3")
    for name in ("REDIS_URL", "REDIS_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{folder}/app.sqlite3")
    monkeypatch.setenv("RELEVO_VAR_DIR", str(folder))
    own = config.load(env_file=None)
    monkeypatch.setattr(tasks.app, "settings", dataclasses.replace(own, secret=b"s" * 32))
    settings.engine.cache_clear()
    settings.application.cache_clear()
    monkeypatch.setattr(access, "_passwords", CHEAP)
    with fake(app=tasks.app) as queue:
        yield Shop(folder, queue, monkeypatch)
    request_counts.flush()  # nobody writes to it later, when it is gone
    engine_for(own.database_url).dispose()
    settings.engine.cache_clear()
    settings.application.cache_clear()
