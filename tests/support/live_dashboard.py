"""A dashboard with a real worker: on a SQLite file, or on a Redis and a PostgreSQL that can be cut
off.
"""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
import psycopg

from relevo.database.schema import create_schema
from relevo.store.store import store_for
from tests.support.celery_project import Project, project
from tests.support.dashboard_site import PASSWORDS, Site
from tests.support.programs import Process
from tests.support.tcp_proxy import Proxy
from tests.support.waits import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

SHOP = "tests.support.apps.dashboard"


@dataclass
class Live:
    """The shop, its worker and its dashboard, and the proxies between them and their servers."""

    shop: Project
    site: Site
    worker: Process
    #: The proxies "broker" and "store", if each has a server of its own.
    wires: dict[str, Proxy] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.site.port}"

    @property
    def source(self) -> Any:
        return self.site.dashboard.source

    def task(self, beginning: str) -> Any:
        return next(task for name, task in self.shop.tasks.items() if name.startswith(beginning))

    def kill_worker(self) -> None:
        """Kill the worker's processes with -9."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in (*psutil.Process(self.worker.pid).children(recursive=True), self.worker):
                each.kill()
        self.worker.wait()

    def until(self, condition: Any) -> None:
        eventually(condition, lambda: self.shop.log("main"))


@contextlib.contextmanager
def servers(
    kind: str, request: pytest.FixtureRequest, folder: Path
) -> Iterator[tuple[dict[str, str], dict[str, Proxy]]]:
    """The settings of a broker and a store that no other test uses, and the proxies before them."""
    if kind == "sqlite":
        yield {"DATABASE_URL": f"sqlite:///{folder}/relevo.db"}, {}
        return
    redis, postgresql = (
        request.getfixturevalue("redis_url"),
        request.getfixturevalue("postgresql_url"),
    )
    name = f"dashboard_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    store_for(f"{postgresql.rpartition('/')[0]}/{name}").administer(create_schema)
    with Proxy(port_of(redis)) as broker, Proxy(port_of(postgresql)) as store:
        yield (
            {
                "REDIS_URL": f"redis://127.0.0.1:{broker.port}/9",
                "QUEUE_CONNECTION": "redis",
                "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{store.port}/{name}",
            },
            {"broker": broker, "store": store},
        )


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


@contextlib.contextmanager
def live(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Live]:
    """The shop on these servers, with its worker and its dashboard."""
    with servers(kind, request, folder) as (environment, wires):
        url = environment.pop("DATABASE_URL")
        with project(SHOP, url, folder, QUEUE_RETRY_AFTER="60", **environment) as shop:
            worker = shop.start_worker("main", "-c", "2")
            site = Site(shop.app, asking=True, basic_auth=PASSWORDS).log_in(PASSWORDS[0])
            opened = Live(shop, site, worker, wires)
            try:
                shop.wait_ready("main", worker)
                yield opened
            finally:
                site.close()
                opened.kill_worker()
