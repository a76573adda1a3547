"""`celery -A … flower` in a process of its own on SQLite, with and without a password
and a prefix.
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest

from relevo import dashboard
from tests.support.celery_project import project, stop
from tests.support.servers import free_port
from tests.support.waits import LONG, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER = "main@here"
PASSWORD = "me:secret"
ONLINE = f'flower_worker_online{{worker="{WORKER}"}} 1.0'


class Site:
    """One running dashboard."""

    def __init__(self, port: int, prefix: str = "", password: str = "") -> None:
        self.root = f"http://127.0.0.1:{port}{prefix}"
        self.headers = (
            {"Authorization": f"Basic {b64encode(password.encode()).decode()}"} if password else {}
        )

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        """Status and body."""
        request = Request(self.root + path, method=method, headers={**self.headers, **headers})
        try:
            with urlopen(request, timeout=LONG) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as refused:
            return refused.code, refused.read().decode()

    def post(self, path: str, **headers: str) -> int:
        return self.get(path, method="POST", **headers)[0]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A worker, jobs that it has done, jobs that wait, and two dashboards that have heard of all
    this.
    """
    folder = tmp_path_factory.mktemp("flower")
    ports = [free_port(), free_port()]
    with project("tests.support.apps.plain", f"sqlite:///{folder}/relevo.db", folder) as shop:
        worker = shop.start_worker("main", "-c", "1", "-Q", "default,high")
        running = [worker]
        try:
            shop.wait_ready("main", worker)
            running.append(shop.start("flower", name="open", FLOWER_PORT=str(ports[0])))
            behind = {"FLOWER_PORT": str(ports[1]), "FLOWER_BASIC_AUTH": PASSWORD}
            running.append(shop.start("flower", "--url_prefix=jobs", name="closed", **behind))
            for name, process in zip(("open", "closed"), running[1:], strict=True):
                shop.wait_ready(name, process, "Visit me")
            eventually(lambda: "enabled by remote" in shop.log("main"), lambda: shop.log("main"))
            site, closed = Site(ports[0]), Site(ports[1], "/jobs", PASSWORD)
            for listening in (
                site,
                closed,
            ):  # until then an event of the worker may be dropped without a listener
                eventually(
                    lambda site=listening: ONLINE in site.get("/metrics")[1],
                    lambda: shop.log("main"),
                )
            done = shop.tasks["add"].delay(1, 1)
            waiting = [
                shop.tasks["add"].apply_async((1, 1), queue="idle", countdown=wait)
                for wait in (0, 600)
            ]
            eventually(
                lambda: "SUCCESS" in site.get(f"/task/{done.id}")[1], lambda: shop.log("open")
            )
            eventually(
                lambda: f'"{done.id}"' in closed.get("/api/tasks")[1], lambda: shop.log("closed")
            )
            eventually(
                lambda: WORKER in closed.get("/api/workers?refresh=1")[1],
                lambda: shop.log("closed"),
            )
            yield SimpleNamespace(
                site=site, closed=closed, done=done, waiting=waiting, processes=running, shop=shop
            )
        finally:
            stop(*running)


def test_flower_listens_on_this_machine_only(shown):
    listening = [
        at
        for process in shown.processes
        for at in psutil.Process(process.pid).net_connections("inet")
    ]
    assert {at.laddr.ip for at in listening if at.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("path", "shows"),
    [
        ("/", WORKER),
        ("/workers", WORKER),
        (f"/worker/{WORKER}", "relevo.worker.pool.prefork:TaskPool"),
        ("/tasks", "tasks-table"),
        ("/task/{done}", "SUCCESS"),
        ("/broker", "sqlite:///"),
        ("/metrics", ONLINE),
        ("/healthcheck", "OK"),
    ],
)
def test_every_page_of_flower_works_with_and_without_a_prefix(shown, path, shows):
    for site in (shown.site, shown.closed):
        status, page = site.get(path.format(done=shown.done.id))
        assert status == 200
        assert shows.lower() in page.lower()


def test_the_broker_page_lists_queues_with_and_without_workers(shown):
    for site in (shown.site, shown.closed):
        page = site.get("/broker")[1]
        assert all(f'<tr id="{queue}">' in page for queue in ("default", "high", "idle"))
        cells = page.partition('<tr id="idle">')[2].partition("</tr>")[0].split("<td")[1:]
        assert [cell.partition(">")[2].partition("<")[0] for cell in cells][:5] == [
            "idle",
            "2",
            "0",
            "1",
            "0",
        ]


def test_the_api_knows_the_workers_and_the_lengths_of_the_queues(shown):
    workers = json.loads(shown.closed.get("/api/workers")[1])
    assert {queue["name"] for queue in workers[WORKER]["active_queues"]} == {"default", "high"}
    queues = {
        row["name"]: row
        for row in json.loads(shown.closed.get("/api/queues/length")[1])["active_queues"]
    }
    assert queues.keys() == {"default", "high", "idle"}
    assert (queues["default"]["messages"], queues["default"]["consumers"]) == (0, 1)
    idle = queues["idle"]
    assert (
        idle["messages"],
        idle["messages_ready"],
        idle["messages_delayed"],
        idle["consumers"],
    ) == (2, 1, 1, 0)
    assert idle["oldest_ready_seconds"] >= 0


@pytest.mark.parametrize(
    "action",
    [
        f"/api/worker/shutdown/{WORKER}",
        "/api/task/send-task/add",
        "/api/task/revoke/1?terminate=true",
    ],
)
def test_without_a_password_no_action_is_possible_and_the_api_is_closed(shown, action):
    assert shown.site.post(action) == 401
    assert [
        shown.site.get(path)[0] for path in ("/api/workers", "/api/tasks", "/api/queues/length")
    ] == [401] * 3
    assert shown.processes[0].poll() is None


def test_with_a_password_nothing_is_shown_or_done_without_it(shown):
    stranger = Site(0)
    stranger.root = shown.closed.root
    for path in ("/workers", "/tasks", "/broker", "/api/workers", "/api/queues/length"):
        assert stranger.get(path)[0] == 401, path
    assert stranger.post(f"/api/worker/shutdown/{WORKER}") == 401


def test_an_action_with_the_password_is_done_and_one_from_another_site_is_not(shown):
    consume = f"/api/worker/queue/add-consumer/{WORKER}?queue=low"
    assert shown.closed.post(consume, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert shown.closed.post(consume) == 200
    eventually(lambda: "low" in {queue["name"] for queue in _queues(shown)})


def _queues(shown):
    return (shown.shop.app.control.inspect([WORKER]).active_queues() or {}).get(WORKER, [])


def test_outside_of_the_flower_command_nothing_is_installed(monkeypatch):
    monkeypatch.delitem(sys.modules, "flower.command", raising=False)
    dashboard.register_dashboard()
