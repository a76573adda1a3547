"""Alerts reach their urls or are an error; and the secret that signs links."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from relevo import alerts
from relevo.alerts import AlertError
from relevo.config.services import AlertSettings, read_secret
from relevo.errors import SettingsError
from tests.support.settings import load


@pytest.fixture
def receiver():
    """A receiver of JSON alerts: its url, and the alerts that it got."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(server.status)
            self.end_headers()

        def log_message(self, *_words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.status = [], 200
    server.alert_url = f"json://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_an_alert_reaches_its_receiver(receiver):
    assert (
        alerts.send(AlertSettings((receiver.alert_url,)), "Failed: images.process", "disk\nfull")
        == 1
    )
    (got,) = receiver.got
    assert (got["title"], got["message"], got["type"]) == (
        "Failed: images.process",
        "disk\nfull",
        "warning",
    )


def test_only_critical_alerts_reach_the_critical_urls(receiver):
    people = AlertSettings((), (receiver.alert_url,))
    assert alerts.send(people, "a", "b") == 0
    assert receiver.got == []
    assert alerts.send(people, "a", "b", critical=True) == 1
    assert receiver.got[0]["type"] == "failure"


def test_a_receiver_that_is_not_reached_is_an_error(receiver):
    receiver.status = 500
    with pytest.raises(AlertError, match="did not reach"):
        alerts.send(AlertSettings((receiver.alert_url,)), "a", "b")


def test_a_wrong_url_is_named_by_its_place_and_not_shown():
    with pytest.raises(
        AlertError, match="expected alert url 1 to be one of Apprise's, got nothing"
    ) as refused:
        alerts.send(AlertSettings(("nothing://key:secret@host",)), "a", "b")
    assert "secret" not in str(refused.value)


def test_the_receivers_come_from_the_settings():
    settings = load(ALERT_URLS=" json://a/  json://b/?x=1,2 ", ALERT_CRITICAL_URLS="json://c/")
    assert settings.alerts == AlertSettings(("json://a/", "json://b/?x=1,2"), ("json://c/",))


def test_a_secret_is_created_once_and_readable_by_its_owner_only(tmp_path):
    given = tmp_path / "var" / "secret"
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(lambda _: read_secret(given), range(32)))
    assert len(secrets) == 1
    assert len(secrets.pop()) >= 32
    assert given.stat().st_mode & 0o777 == 0o600
    assert list(given.parent.iterdir()) == [given]


def test_a_short_secret_stops_the_start():
    with pytest.raises(SettingsError, match="at least 32 characters, got 5"):
        load(RELEVO_SECRET="short")
    assert read_secret(load(RELEVO_SECRET="x" * 32).secret) == b"x" * 32
