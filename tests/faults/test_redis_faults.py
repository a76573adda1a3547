"""Real workers on real Redis servers that stop, freeze, fill up, fall silent and fail over.

The workers always go on by themselves: running jobs end, waiting ones run, and none starts twice
while the trouble is shorter than the lease.
"""

from __future__ import annotations

import threading
import time

import celery
import pytest

from relevo.drivers.redis.driver import RedisDriver
from relevo.errors import DriverError, DriverUnavailableError
from relevo.transport import registration
from tests.support import servers
from tests.support.redis_servers import Sentinel, Server
from tests.support.tcp_proxy import Proxy
from tests.support.workers import Site

# Troubles last for seconds here; the connections are to notice them in less, the leases to outlast
# them.
IMPATIENT = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
LONG, SHORT = 20.0, 1.0


@pytest.fixture(scope="module")
def server():
    """One that keeps everything."""
    with Server(appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.fixture
def site(server, tmp_path):
    return Site(server.url, tmp_path, LONG, IMPATIENT)


@pytest.fixture
def client(server):
    """A Celery client on our driver."""
    registration.register_transport()
    app = celery.Celery(
        "client", broker=server.url, broker_transport_options=IMPATIENT, set_as_current=False
    )
    yield app
    app.close()


class Scene:
    """A worker with two jobs that run and can't end, one delayed and ten that wait; trouble comes;
    the gate opens.
    """

    def __init__(self, site, worker):
        self.site, self.worker = site, worker
        self.gate = site.folder / "gate"
        site.dispatch("hold", range(2), str(self.gate))
        site.until(lambda: site.running() == {0, 1})
        site.dispatch("work", range(2, 12))

    def noticed(self):
        """Wait until the worker has."""
        self.site.until(lambda: "the broker is away" in self.worker.log.read_text())

    def back(self):
        """Wait until the worker is."""
        self.site.until(
            lambda: self.worker.log.read_text().count("the broker is back") == self.away()
        )

    def away(self):
        return self.worker.log.read_text().count("the broker is away")

    def ends(self, *, twice=()):
        """Everything is run, by the same worker, and these at most were started again."""
        self.site.dispatch("work", [12])
        self.gate.touch()
        self.site.until(lambda: self.site.ended == set(range(13)))
        self.site.until(self.site.empty)
        assert self.site.twice() <= set(twice)
        assert self.worker.alive()
        assert self.site.failed() == []


@pytest.fixture
def scene(site):
    with site.worker("-c", "2") as worker:
        yield Scene(site, worker)


def test_a_restart_shorter_than_the_lease_starts_nothing_twice(server, scene):
    server.stop()
    scene.noticed()
    server.start()
    scene.back()
    scene.ends()


def test_a_restart_longer_than_the_lease_loses_nothing(server, tmp_path):
    site = Site(server.url, tmp_path, SHORT, IMPATIENT)
    with site.worker("-c", "2") as worker, site.worker("-c", "1"):
        scene = Scene(site, worker)
        server.stop()
        scene.noticed()
        time.sleep(SHORT * 1.5)  # the fault itself
        server.start()
        scene.ends(twice=range(12))


def test_a_worker_that_is_told_to_stop_while_its_broker_is_away_stops_and_loses_nothing(
    server, tmp_path
):
    """A thread that held the lock of the stop used to try its heartbeat for ever."""
    site = Site(server.url, tmp_path, SHORT, IMPATIENT)
    with site.worker("-c", "2", "--heartbeat-interval", "1") as worker:
        scene = Scene(site, worker)
        server.stop()
        scene.noticed()
        scene.gate.touch()
        before = len(site.facts("heartbeat"))
        site.until(lambda: len(site.facts("heartbeat")) > before + 1)  # so the first one is over
        assert worker.stop() == 0
    server.start()
    with site.worker("-c", "2"):
        site.until(lambda: site.ended == set(range(12)))
        site.until(site.empty)
    assert site.twice() <= {0, 1}


def test_connections_that_are_killed_are_made_again(server, scene):
    for _ in range(3):
        server.client.client_kill_filter(_type="normal", skipme=True)
    scene.ends()


def test_a_server_that_is_silent_for_longer_than_the_timeouts_is_waited_for(server, scene):
    with server.frozen():
        scene.noticed()
    scene.back()
    scene.ends()


def test_a_half_open_connection_is_closed_and_replaced(server, tmp_path):
    with Proxy(server.port) as proxy:
        site = Site(f"redis://{servers.HOST}:{proxy.port}/0", tmp_path, LONG, IMPATIENT)
        with site.worker("-c", "2") as worker:
            site.url = server.url  # we see what the worker doesn't
            scene = Scene(site, worker)
            proxy.pull()
            scene.noticed()
            proxy.plug()
            scene.back()
            scene.ends()


def test_a_full_server_takes_no_jobs_and_loses_none(server, client, scene):
    server.client.config_set("maxmemory", "1")
    try:
        # When it is full, I expect a publisher to be told
        with pytest.raises(DriverError, match="redis is full"):
            scene.site.driver.put([scene.site._job("work", 2, (), None)])
        with pytest.raises(Exception, match="redis is full"):
            client.send_task("work", (99,), queue=scene.site.queue)

        # and what is there to be run and acked
        scene.gate.touch()
        scene.site.until(lambda: scene.site.ended == set(range(12)))
        scene.site.until(scene.site.empty)
    finally:
        server.client.config_set("maxmemory", "0")
    scene.ends()


def test_after_a_failover_the_workers_go_on_at_the_new_master(tmp_path):
    with (
        Server(repl_diskless_sync_delay="0") as first,
        Server(repl_diskless_sync_delay="0") as second,
    ):
        second.client.replicaof(servers.HOST, str(first.port))
        with Sentinel(first) as sentinel:
            options = {**IMPATIENT, "master_name": "mymaster"}
            site = Site(sentinel.url, tmp_path, LONG, options)
            site.until(lambda: second.client.info("replication")["master_link_status"] == "up")
            site.until(lambda: sentinel.client.sentinel_masters()["mymaster"]["num-slaves"] == 1)
            with site.worker("-c", "2") as worker:
                scene = Scene(site, worker)
                first.client.set(
                    "last", ""
                )  # WAIT is for the writes of its own connection, and all before them
                assert first.client.wait(1, 60_000) == 1
                first.kill()
                scene.noticed()
                site.until(lambda: sentinel.master_port() == second.port)
                scene.back()
                scene.ends()


# --- publishing -----------------------------------------------------------------------------------
def test_publishing_to_an_unreachable_server_is_retried_within_limits_and_then_an_error(
    server, client
):
    server.stop()
    try:
        policy = {"max_retries": 2, "interval_start": 0.01}
        with pytest.raises(Exception, match="Connection refused"):
            client.send_task("work", (1,), queue="publishing", retry_policy=policy)
        with pytest.raises(DriverUnavailableError):
            RedisDriver(server.url).queues()
    finally:
        server.start()
    assert RedisDriver(server.url).sizes("publishing").pending == 0


def test_a_job_published_while_the_server_is_frozen_exists_once(server, client):
    # Given a connection that works, and a publisher that loses patience several times
    client.send_task("work", (1,), queue="frozen")
    publisher = threading.Thread(
        target=client.send_task,
        args=("work", (2,)),
        kwargs={
            "queue": "frozen",
            "retry_policy": {"max_retries": 50, "interval_start": 0.01, "interval_max": 0.1},
        },
    )
    with server.frozen():
        publisher.start()
        publisher.join(IMPATIENT["socket_timeout"] * 4)  # the fault itself
        assert publisher.is_alive()
    publisher.join()

    # I expect each of its tries to have been the same
    driver = RedisDriver(server.url)
    assert driver.sizes("frozen").pending == 2
    driver.clear("frozen")
