"""Every kind of Redis url, with a client and a real worker: jobs run, remote control replies."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import celery
import pytest

from relevo.drivers.redis.driver import RedisDriver
from relevo.errors import DriverUnavailableError
from relevo.transport import registration
from tests.support import servers
from tests.support.driver_jobs import ids, put, take
from tests.support.redis_servers import Sentinel, Server
from tests.support.waits import LONG, eventually, readable
from tests.support.workers import Site


@dataclass
class Way:
    """A way to a server: its url, and the settings that go with it."""

    url: str
    options: dict[str, Any] = field(default_factory=dict)
    ssl: dict[str, str] | None = None


@pytest.fixture(scope="module")
def place():
    """One server that listens on TCP, a socket and, with a certificate it signed itself, TLS; and
    its Sentinel.
    """
    with Server() as server, contextlib.ExitStack() as stack:
        server.kill()
        server.options |= {"unixsocket": str(server.home / "socket"), **certificate(server.home)}
        if has_tls(server):
            server.options |= {"tls-port": str(servers.free_port())}
        else:
            server.options = {
                key: value for key, value in server.options.items() if not key.startswith("tls")
            }
        server.start()
        server.client.acl_setuser(
            "me",
            enabled=True,
            passwords=["+p w:d/@"],
            keys=["*"],
            channels=["*"],
            categories=["+@all"],
        )
        server.sentinel = stack.enter_context(Sentinel(server))
        yield server


def certificate(home: Path) -> dict[str, str]:
    key, cert = str(home / "key.pem"), str(home / "cert.pem")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=relevo",
            "-addext",
            f"subjectAltName=IP:{servers.HOST}",
            "-keyout",
            key,
            "-out",
            cert,
        ],
        check=True,
        capture_output=True,
    )
    return {
        "tls-cert-file": cert,
        "tls-key-file": key,
        "tls-ca-cert-file": cert,
        "tls-auth-clients": "no",
    }


def has_tls(server: Server) -> bool:
    """Whether this Redis was built with TLS: others refuse the setting."""
    tried = [
        server.program,
        "--port",
        "0",
        "--tls-port",
        "0",
        "--tls-auth-clients",
        "no",
        "--dir",
        "/nowhere",
    ]
    said = subprocess.run(tried, capture_output=True, text=True, check=False)
    return "tls" not in said.stdout + said.stderr


def ways(server: Server) -> dict[str, Way]:
    tls, cert = server.options.get("tls-port"), server.options.get("tls-cert-file")
    sentinel = f"sentinel://{servers.HOST}:{servers.free_port()}/0;{server.sentinel.url}"
    return {
        "tcp": Way(f"{server.url[:-1]}3", {"global_keyprefix": "shop:", "client_name": "shop"}),
        "credentials": Way(f"redis://me:p%20w%3Ad%2F%40@{servers.HOST}:{server.port}/0"),
        "socket": Way(f"redis+socket://{server.home}/socket?virtual_host=2"),
        "tls": Way(
            f"rediss://{servers.HOST}:{tls}/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={cert}"
        ),
        "tls-setting": Way(f"rediss://{servers.HOST}:{tls}/1", ssl={"ssl_ca_certs": str(cert)}),
        "sentinel": Way(sentinel, {"master_name": "mymaster"}),
    }


@pytest.fixture(params=["tcp", "credentials", "socket", "tls", "tls-setting", "sentinel"])
def way(request, place):
    if request.param.startswith("tls") and "tls-port" not in place.options:
        servers.missing("redis-server with TLS")
    return ways(place)[request.param]


def test_a_client_dispatches_and_a_worker_runs_and_replies(way, tmp_path):
    registration.register_transport()
    site = Site(way.url, tmp_path, options=way.options, ssl=way.ssl)
    app = celery.Celery(
        "client",
        broker=way.url,
        broker_transport_options=way.options,
        broker_use_ssl=way.ssl,
        set_as_current=False,
    )
    with site.worker("-c", "1") as worker:
        app.send_task("work", (1,), queue=site.queue)
        app.send_task("work", (2,), queue=site.queue, countdown=0.2)
        site.until(lambda: site.ended == {1, 2})
        site.until(site.empty)
        assert list(app.control.inspect(timeout=LONG, limit=1).ping().values()) == [{"ok": "pong"}]
        assert worker.stop() == 0
    app.close()


def test_a_subscription_reports_a_job_on_each(way):
    driver, other = (RedisDriver(way.url, way.options, ssl=way.ssl) for _ in range(2))
    subscription = driver.watch(["default"])
    is_woken_after(subscription, lambda: put(other, "a", queue="default"))
    assert ids(take(driver, "default")) == ["a"]
    subscription.close()
    driver.close()
    other.close()


def is_woken_after(subscription, act):
    subscription.listen(True)
    act()
    eventually(
        lambda: (
            readable(subscription.fileno(), within=LONG)
            and subscription.poll()
            and subscription._token
        )
    )  # TLS has words of its own


def test_an_untrusted_certificate_is_refused(place):
    if "tls-port" not in place.options:
        servers.missing("redis-server with TLS")
    url = f"rediss://{servers.HOST}:{place.options['tls-port']}/0?ssl_cert_reqs=CERT_REQUIRED"
    with pytest.raises(DriverUnavailableError, match="certificate verify failed"):
        RedisDriver(url).queues()


def test_a_wrong_password_is_an_error(place):
    with pytest.raises(DriverUnavailableError, match="invalid username-password"):
        RedisDriver(f"redis://me:wrong@{servers.HOST}:{place.port}/0").queues()


def test_the_database_the_prefix_and_the_name_are_those_of_the_url_and_the_options(place):
    tcp = ways(place)["tcp"]
    driver = RedisDriver(tcp.url, tcp.options)
    put(driver, "a", queue="names")
    place.client.select(3)
    assert place.client.exists("shop:relevo:jobs")
    place.client.select(0)
    assert "shop" in {client["name"] for client in place.client.client_list()}
    driver.close()


def test_a_socket_with_a_database_and_a_sentinel_without_one_are_told_apart(place):
    socket = ways(place)["socket"]
    assert RedisDriver(socket.url).pool.connection_kwargs["db"] == 2
    assert RedisDriver(f"redis+socket://{place.home}/socket").pool.connection_kwargs["db"] == 0


def test_more_threads_than_kombus_ten_connections_talk_at_the_same_time(place):
    driver = RedisDriver(place.url)
    subscriptions = [driver.watch(["many"]) for _ in range(40)]
    for subscription in subscriptions:
        subscription.listen(True)
    assert all(subscription.fileno() is not None for subscription in subscriptions)
    for subscription in subscriptions:
        subscription.close()
    driver.close()
