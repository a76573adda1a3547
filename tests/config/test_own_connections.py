"""Connections of a project's own, and changes of the ready-made ones."""

from __future__ import annotations

import json

import pytest

from relevo import config
from relevo.config import CONNECTIONS
from relevo.errors import SettingsError
from tests.support.settings import load as load_settings

SECRET = "s3cr3t"


def load(own=None, *, code=None, **environ):
    if own is not None:
        environ["QUEUE_CONNECTIONS"] = json.dumps(own)
    return config.load(environ, None, connections=code)


def facts(connection):
    return connection.driver, connection.url, connection.queue, connection.retry_after


@pytest.mark.parametrize("in_code", [False, True])
def test_any_number_of_connections_each_have_a_url_a_queue_and_a_lease(in_code):
    own = {
        "reports": {"url": "redis://r2/4", "queue": "reports", "lease": 600},
        "eu.mail": {"url": "postgresql://u:p@eu/jobs", "lease": 45},
        "bus": {"url": "sqs://", "queue": "bus"},
    }
    settings = load(code=own) if in_code else load(own)
    connections = settings.connections
    assert facts(connections["reports"]) == ("redis", "redis://r2/4", "reports", 600)
    assert connections["reports"].transport_options["lease"] == 600
    assert facts(connections["eu.mail"])[0::2] == ("database", "default")
    assert connections["eu.mail"].transport_options == {"lease": 45}
    assert facts(connections["bus"]) == ("sqs", "sqs://", "bus", 1800)
    assert tuple(connections) == (*CONNECTIONS, *own)
    assert settings.connection_named("reports").name == "reports"
    with pytest.raises(SettingsError, match="did you mean 'reports'"):
        settings.connection_named("report")


def test_without_a_url_it_is_another_queue_of_the_chosen_broker():
    own = {"slow": {"queue": "slow", "lease": 900}, "reports": {"url": "redis://r2/4"}}
    assert facts(load(own, REDIS_HOST="r").connections["slow"]) == (
        "redis",
        "redis://r:6379/0",
        "slow",
        900,
    )
    chosen = load(own, QUEUE_CONNECTION="reports").connections
    assert chosen["slow"].url == chosen["high-priority"].url == "redis://r2/4"
    itself = load(own, QUEUE_CONNECTION="slow")
    assert (itself.connection.driver, itself.connection.queue) == ("database", "slow")


def test_the_leases_and_queues_of_the_ready_made_ones_can_be_changed():
    own = {"redis-long": {"lease": 1200}, "high-priority": {"queue": "urgent"}, "sqs": {"lease": 9}}
    changed, plain = load(own).connections, load_settings().connections
    assert (changed["redis-long"].retry_after, changed["redis-long"].queue) == (1200, "long")
    assert (changed["high-priority"].retry_after, changed["high-priority"].queue) == (30, "urgent")
    assert changed["sqs"].transport_options == {"visibility_timeout": 9}
    assert {name for name in plain if changed[name] != plain[name]} == set(own)


def test_a_connection_in_code_goes_before_one_of_the_setting():
    settings = load({"a": {"lease": 5}, "b": {"lease": 6}}, code={"a": {"lease": 7}})
    assert [settings.connections[name].retry_after for name in "ab"] == [7, 6]


def test_a_worker_may_take_from_one_and_its_results_are_stored_where_the_settings_say():
    settings = load({"reports": {"url": "redis://r2/4"}}, QUEUE_CONNECTION="reports")
    assert settings.connection.url == "redis://r2/4"
    assert settings.result_backend == f"db+{settings.database_url}"


def test_the_file_may_have_them(tmp_path):
    path = tmp_path / ".env"
    path.write_text('QUEUE_CONNECTIONS={"reports": {"url": "redis://r2/4", "lease": 60}}\n')
    assert config.load({}, path).connections["reports"].retry_after == 60


def test_sentinels_need_their_masters_name():
    own = {"reports": {"url": "sentinel://a;sentinel://b", "master": "main"}}
    options = load(own).connections["reports"].transport_options
    assert options["master_name"] == "main"


BAD = [
    ("[1]", "expected QUEUE_CONNECTIONS to be a JSON object"),
    (f'{{"a": {{"url": "redis://:{SECRET}@h"', "expected QUEUE_CONNECTIONS to be a JSON object"),
    ({"a b": {}}, "expected the name of a connection to be letters"),
    ({"a": "redis://h"}, "expected connection 'a' to be an object with url, queue, lease, master"),
    ({"a": {"ulr": "redis://h"}}, "got 'ulr'; did you mean 'url'?"),
    ({"a": {"url": f"http://u:{SECRET}@h"}}, "expected the url of connection 'a' to be a sqlite"),
    ({"a": {"url": f"redis://u:{SECRET}@h/x"}}, "expected the url of connection 'a' to be a redis"),
    ({"a": {"url": 7}}, "expected the url of connection 'a' to be a sqlite"),
    ({"a": {"url": "sqlite://"}}, "expected the url of connection 'a' to name a SQLite file"),
    ({"a": {"url": "sentinel://h"}}, "expected the master of connection 'a'"),
    ({"a": {"url": "redis://h", "master": "m"}}, "expected a sentinel:// url beside the master"),
    ({"a": {"queue": ""}}, "expected the queue of connection 'a' to be its name, got ''"),
    ({"a": {"lease": 0}}, "expected the lease of connection 'a' to be a positive number"),
    ({"a": {"lease": True}}, "a positive number of seconds, got True"),
    ({"a": {"lease": "60"}}, "a positive number of seconds, got '60'"),
    ({"redis": {"url": "redis://h"}}, "of that connection only queue and lease can be changed"),
    ({"sync": {"lease": 5}}, "and of 'sync' nothing"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_a_wrong_one_stops_the_start_with_one_line_without_a_password(given, message):
    text = given if isinstance(given, str) else json.dumps(given)
    with pytest.raises(SettingsError) as refused:
        load(QUEUE_CONNECTIONS=text)
    assert message in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_password_is_in_the_repr():
    own = {"a": {"url": f"redis://:{SECRET}@h/1"}}
    assert SECRET not in repr(load(own))
