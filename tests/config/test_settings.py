"""Settings: where they are read, and the one-line error of a bad one."""

import copy
import dataclasses
import os
import pickle
import re
from pathlib import Path

import pytest

from app import settings
from relevo.config import Settings
from relevo.config import settings as config
from relevo.errors import SettingsError
from tests.support.settings import load

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / ".env.example"


def refusal(**environ: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(**environ)
    message = str(refused.value)
    assert "\n" not in message
    return message


# --- the broker -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "name", "driver", "url"),
    [
        ({}, "database", "database", f"sqlite:///{Path.cwd()}/var/relevo.sqlite3"),
        ({"REDIS_URL": "redis://r/3"}, "redis", "redis", "redis://r/3"),
        ({"REDIS_HOST": "r"}, "redis", "redis", "redis://r:6379/0"),
        (
            {"REDIS_PASSWORD": "p"},
            "database",
            "database",
            f"sqlite:///{Path.cwd()}/var/relevo.sqlite3",
        ),
        ({"QUEUE_CONNECTION": "redis"}, "redis", "redis", "redis://127.0.0.1:6379/0"),
        (
            {
                "QUEUE_CONNECTION": "database",
                "REDIS_HOST": "r",
                "DATABASE_URL": "postgres://u:p@h/d",
            },
            "database",
            "database",
            "postgresql://u:p@h/d",
        ),
        ({"QUEUE_CONNECTION": "sync", "REDIS_HOST": "r"}, "sync", "sync", "memory://"),
        (
            {"QUEUE_CONNECTION": "high-priority", "REDIS_HOST": "r"},
            "high-priority",
            "redis",
            "redis://r:6379/0",
        ),
        (
            {"QUEUE_CONNECTION": "long-running"},
            "long-running",
            "database",
            f"sqlite:///{Path.cwd()}/var/relevo.sqlite3",
        ),
        ({"QUEUE_CONNECTION": "redis-long"}, "redis-long", "redis", "redis://127.0.0.1:6379/0"),
    ],
)
def test_the_broker_is_the_chosen_one_or_redis_if_set_or_the_database(environ, name, driver, url):
    connection = load(**environ).connection
    assert (connection.name, connection.driver, connection.url) == (name, driver, url)


def test_every_connection_has_its_queue_and_lease():
    connections = load(QUEUE_RETRY_AFTER="90", SQS_RETRY_AFTER="600").connections
    assert {name: (c.queue, c.retry_after) for name, c in connections.items()} == {
        "sync": ("default", 90),
        "database": ("default", 90),
        "redis": ("default", 90),
        "sqs": ("default", 600),
        "high-priority": ("high", 30),
        "long-running": ("long", 300),
        "redis-long": ("long", 300),
        "redis-priority": ("high", 60),
    }
    assert tuple(connections) == tuple(sorted(connections, key=config.CONNECTIONS.index))
    assert set(connections) == set(config.CONNECTIONS)


def test_high_priority_and_long_running_follow_the_chosen_broker():
    on_sync, on_redis = (
        load(QUEUE_CONNECTION="sync").connections,
        load(QUEUE_CONNECTION="redis").connections,
    )
    assert on_sync["high-priority"].driver == on_sync["long-running"].driver == "sync"
    assert on_redis["high-priority"].url == on_redis["long-running"].url == on_redis["redis"].url


def test_the_lease_reaches_the_driver_and_a_silent_redis_is_noticed():
    connections = load(QUEUE_RETRY_AFTER="45").connections
    assert connections["database"].transport_options == {"lease": 45}
    assert connections["sqs"].transport_options == {"visibility_timeout": 1800}
    assert connections["redis"].transport_options["lease"] == 45
    assert connections["redis"].transport_options["socket_timeout"] > 0
    assert connections["redis"].transport_options["socket_keepalive"] is True


def test_an_unknown_connection_of_a_dispatch_is_refused_with_the_likely_name():
    with pytest.raises(
        SettingsError, match="no connection named 'reddis'; did you mean 'redis'\\?"
    ):
        load().connection_named("reddis")
    assert load().connection_named("redis-long").queue == "long"


def test_sqs_without_boto3_says_what_to_install(monkeypatch):
    monkeypatch.setattr(config, "find_spec", lambda _name: None)
    assert (
        refusal(QUEUE_CONNECTION="sqs")
        == "QUEUE_CONNECTION=sqs needs boto3: pip install 'kombu[sqs]'"
    )
    monkeypatch.setattr(config, "find_spec", lambda _name: object())
    assert load(QUEUE_CONNECTION="sqs").connection.url == "sqs://"


# --- urls -----------------------------------------------------------------------------------------


def test_a_relative_sqlite_file_is_the_same_for_every_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        load(DATABASE_URL="sqlite:///jobs/mine.db").database_url
        == f"sqlite:///{tmp_path}/jobs/mine.db"
    )
    assert load(DATABASE_URL="sqlite:////abs/mine.db").database_url == "sqlite:////abs/mine.db"
    assert load(RELEVO_VAR_DIR="run").database_url == f"sqlite:///{tmp_path}/run/relevo.sqlite3"
    assert load(RELEVO_VAR_DIR="run").storage == tmp_path / "run" / "files"


def test_a_password_may_have_any_characters():
    password = "p@ss:/wörd %$;?#"
    url = load(
        REDIS_HOST="r",
        REDIS_PASSWORD=password,
        REDIS_USERNAME="me",
        REDIS_PORT="7000",
        REDIS_DB="2",
    ).redis_url
    from redis.connection import parse_url  # noqa: PLC0415  what will read it

    assert parse_url(url) == {
        "username": "me",
        "password": password,
        "host": "r",
        "port": 7000,
        "db": 2,
    }


def test_an_ipv6_redis_host_gets_its_brackets():
    assert load(REDIS_HOST="::1").redis_url == "redis://[::1]:6379/0"


def test_redis_may_be_behind_a_unix_socket():
    url = "redis+socket:///run/redis.sock?virtual_host=2"
    assert load(REDIS_URL=url).redis_url == load(REDIS_URL=url).result_backend == url


def test_sentinels_need_the_name_of_their_master():
    settings = load(
        REDIS_URL="sentinel://:secret@a:26379/0;sentinel://b:26379",
        REDIS_SENTINEL_MASTER="mymaster",
    )
    assert settings.connection.url == "sentinel://:secret@a:26379/0;sentinel://b:26379"
    assert settings.connections["redis-long"].transport_options["master_name"] == "mymaster"
    assert settings.result_transport_options == {"master_name": "mymaster"}
    assert "master_name" not in load(REDIS_URL="redis://r").connection.transport_options
    assert load(REDIS_URL="redis://r").result_transport_options == {}


def test_sentinels_without_their_masters_name_are_refused():
    assert refusal(REDIS_URL="sentinel://:secret@a").startswith(
        "expected REDIS_SENTINEL_MASTER to be the master's "
    )


def test_tls_to_redis_checks_the_certificate_unless_told_not_to():
    assert load(REDIS_URL="rediss://r/0").redis_url == "rediss://r/0?ssl_cert_reqs=CERT_REQUIRED"
    assert (
        load(REDIS_URL="rediss://r/0?a=b").redis_url
        == "rediss://r/0?a=b&ssl_cert_reqs=CERT_REQUIRED"
    )
    url = "rediss://r/0?ssl_cert_reqs=CERT_NONE"
    assert load(REDIS_URL=url).redis_url == url


def test_the_python_driver_is_named_for_sqlalchemy_and_not_for_celery():
    settings = load(DATABASE_URL="mysql://u:p@h/d")
    assert settings.database_url == "mysql+pymysql://u:p@h/d"
    assert settings.connection.url == "mysql://u:p@h/d"
    assert settings.result_backend == "db+mysql+pymysql://u:p@h/d"


@pytest.mark.parametrize(
    ("environ", "backend"),
    [
        ({}, f"db+sqlite:///{Path.cwd()}/var/relevo.sqlite3"),
        ({"REDIS_HOST": "r"}, "redis://r:6379/0"),
        (
            {"REDIS_HOST": "r", "QUEUE_CONNECTION": "database"},
            f"db+sqlite:///{Path.cwd()}/var/relevo.sqlite3",
        ),
        (
            {"REDIS_HOST": "r", "QUEUE_RESULTS": "database"},
            f"db+sqlite:///{Path.cwd()}/var/relevo.sqlite3",
        ),
        ({"QUEUE_RESULTS": "none"}, None),
    ],
)
def test_results_go_where_the_jobs_are_unless_told_otherwise(environ, backend):
    assert load(**environ).result_backend == backend


# --- wrong values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        "soon",
        "-1",
        "0",
        "0.0",
        "nan",
        "NaN",
        "inf",
        "1e3",
        "1_0",
        "\u0663\u0660",
        "\uff13",
        "30s",
        "1,5",
        "9" * 400,
    ],
)
def test_a_lease_is_a_positive_number_of_seconds_and_nothing_else(given):
    message = refusal(QUEUE_RETRY_AFTER=given)
    assert message.startswith("expected QUEUE_RETRY_AFTER to be a positive number of seconds, got ")
    assert given[:20] in message
    assert len(message) < 200


SECRET = {"REDIS_PASSWORD", "FLOWER_BASIC_AUTH", "FLOWER_API_TOKENS"}


@pytest.mark.parametrize("name", [name for name in config.NAMES if name not in SECRET])
@pytest.mark.parametrize("given", ["", "  "])
def test_an_empty_value_counts_as_unset(name, given):
    assert load(**{name: given}) == load()


@pytest.mark.parametrize(
    ("name", "given", "expectation"),
    [
        ("QUEUE_MAX_TRIES", "0", "a whole number from 1 to 1000000, got '0'"),
        ("QUEUE_MAX_TRIES", "2.5", "a whole number from 1 to 1000000, got '2.5'"),
        ("QUEUE_MAX_TRIES", "-3", "a whole number from 1 to 1000000, got '-3'"),
        (
            "QUEUE_BACKOFF",
            "10,,30",
            "numbers of seconds with commas between them, like 10,30,60, got '10,,30'",
        ),
        (
            "QUEUE_BACKOFF",
            "10,-1",
            "numbers of seconds with commas between them, like 10,30,60, got '10,-1'",
        ),
        (
            "QUEUE_BACKOFF",
            "10;30",
            "numbers of seconds with commas between them, like 10,30,60, got '10;30'",
        ),
        (
            "QUEUE_BACKOFF",
            "10,nan",
            "numbers of seconds with commas between them, like 10,30,60, got '10,nan'",
        ),
        ("REDIS_PORT", "65536", "a whole number from 1 to 65535, got '65536'"),
        (
            "REDIS_PORT",
            "tcp://10.0.0.1:6379",
            "a whole number from 1 to 65535, got 'tcp://10.0.0.1:6379'",
        ),
        ("REDIS_HOST", "redis://h", "a host name or an address, got 'redis://h'"),
        ("REDIS_HOST", "höst", "a host name or an address, got 'höst'"),
        (
            "FLOWER_API_TOKENS",
            "ci:short",
            "name:token with tokens of at least 32 characters, got 'ci:… with 5'",
        ),
        ("FLOWER_PORT", "http", "a whole number from 1 to 65535, got 'http'"),
        ("QUEUE_RESULTS", "memcached", "one of database, redis, none, got 'memcached'"),
        ("FILES_DISK_ROOT", "/etc/passwd", "a folder, got '/etc/passwd'"),
        ("FILES_DISK_ROOT", "x" * 300, f"a folder, got '{'x' * 60}…'"),
        ("FILES_DISK_ROOT", "~nobody-here/files", "a folder, got '~nobody-here/files'"),
        ("RELEVO_VAR_DIR", "va\x00r", "a folder, got 'va\\x00r'"),
    ],
)
def test_a_bad_value_is_shown_with_what_was_expected(name, given, expectation):
    assert refusal(**{name: given}) == f"expected {name} to be {expectation}"


def test_backoff_is_read_as_a_tuple_of_numbers():
    assert load(QUEUE_BACKOFF="10, 30,60").queue_backoff == (10, 30, 60)
    assert load(QUEUE_BACKOFF="0.5").queue_backoff == (0.5,)
    assert load(QUEUE_BACKOFF="0").queue_backoff == (0,)


def test_an_unknown_connection_is_refused_with_the_likely_name():
    message = refusal(QUEUE_CONNECTION="Redis")
    assert message.startswith(
        "expected QUEUE_CONNECTION to be one of sync, database, redis, sqs, high-priority, "
    )
    assert message.endswith(", got 'Redis'; did you mean 'redis'?")
    assert refusal(QUEUE_CONNECTION="databse").endswith("got 'databse'; did you mean 'database'?")


@pytest.mark.parametrize("given", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused_because_processes_cannot_share_it(given):
    assert "a database in memory: processes can't share one" in refusal(DATABASE_URL=given)


def test_a_sqlite_path_that_would_end_the_url_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a;b").mkdir()
    monkeypatch.chdir(tmp_path / "a;b")
    assert "a SQLite path without ; and ?" in refusal()


@pytest.mark.parametrize(
    ("given", "expectation"),
    [
        (
            "postgresql+nothing://u:secret@h/d",
            "DATABASE_URL names postgresql+nothing, which isn't installed",
        ),
        ("mysql+nothing://u:secret@h/d", "pip install 'relevo[mysql]'"),
        ("oracle://u:secret@h/d", "got oracle://…"),
        ("postgresql://u:secret@h:port/d", "got postgresql://…"),
        (
            "postgresql:/u:secret@h/d",
            "got a text without a scheme (not shown: it may hold a password)",
        ),
        ("secret", "got a text without a scheme (not shown: it may hold a password)"),
    ],
)
def test_a_bad_database_url_is_refused_without_its_password(given, expectation):
    message = refusal(DATABASE_URL=given)
    assert expectation in message
    assert "secret" not in message


@pytest.mark.parametrize(
    "given",
    [
        "http://:secret@h",
        "redis://:secret@h:port/0",
        "redis://:secret@h/x",
        "redis://:secret@h:99999",
        "redis://[:secret@h",
        "redis://:secret@h/0;redis://g",
        "secret",
        "//:secret@h",
        "redis+socket://",
        "sentinel://:secret@h;redis://g",
        "redis://:secret@h;sentinel://g",
        "sentinel://:secret@h;",
    ],
)
def test_a_bad_redis_url_is_refused_without_its_password(given):
    message = refusal(REDIS_URL=given)
    assert message.startswith(
        "expected REDIS_URL to be a redis://, rediss://, redis+socket:// or sentinel:// url, "
    )
    assert "secret" not in message


def test_no_password_is_in_the_repr_nor_in_the_cause_of_an_error():
    redis = {"REDIS_HOST": "r", "REDIS_PASSWORD": "secret"}
    settings = load(DATABASE_URL="mysql://u:secret@h/d", FLOWER_BASIC_AUTH="me:secret", **redis)
    assert "secret" not in repr(settings) + repr(dict(settings.connections))
    with pytest.raises(SettingsError) as refused:
        load(DATABASE_URL="postgresql://u:secret@h:port/d")
    assert refused.value.__suppress_context__
    assert "secret" not in refusal(FLOWER_BASIC_AUTH="secret")


# --- unknown names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["QUEUE_CONECTION", "REDIS_PASWORD", "RELEVO_VARDIR", "FILES_DISK_ROT", "QUEUE_"]
)
def test_an_unknown_name_with_our_prefix_is_refused_in_the_environment(name):
    message = refusal(**{name: "secret"})
    assert message.startswith(
        f"expected every setting in the environment to be a known one, got {name!r}"
    )
    assert "secret" not in message


def test_an_error_suggests_the_likely_name():
    assert refusal(QUEUE_CONECTION="x").endswith(
        "got 'QUEUE_CONECTION'; did you mean 'QUEUE_CONNECTION'?"
    )


def test_other_programs_names_in_the_environment_are_left_alone():
    others = {
        "PATH": "/bin",
        "FLOWER_MAX_TASKS": "9",
        "MYQUEUE_X": "1",
        "DATABASE_HOST": "h",
        "queue_connection": "x",
        "REDIS_SERVICE_HOST": "10.0.0.1",
        "REDIS_SERVICE_PORT": "6379",
        "REDIS_PORT_6379_TCP": "tcp://10.0.0.1:6379",
        "REDIS_PORT_6379_TCP_ADDR": "10.0.0.1",
    }
    assert load(**others) == load()


# --- the .env file --------------------------------------------------------------------------------


@pytest.fixture
def env_file(tmp_path) -> Path:
    return tmp_path / ".env"


def test_the_file_is_read_and_the_environment_wins(env_file):
    env_file.write_text(
        "# ours\n\nQUEUE_MAX_TRIES=3\nexport QUEUE_BACKOFF='1,2'\n"
        'REDIS_PASSWORD="a#b $c"\nREDIS_HOST=r\r\n'
    )
    settings = config.load({"QUEUE_MAX_TRIES": "5"}, env_file)
    assert (settings.queue_max_tries, settings.queue_backoff) == (5, (1, 2))
    assert settings.redis_url == "redis://:a%23b%20%24c@r:6379/0"


def test_reading_the_file_leaves_the_process_environment_alone(env_file):
    env_file.write_text("QUEUE_MAX_TRIES=3\n")
    before = dict(os.environ)
    assert config.load({}, env_file).queue_max_tries == 3
    assert dict(os.environ) == before


def test_by_default_the_process_environment_goes_before_the_file_of_the_working_directory(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("QUEUE_MAX_TRIES=3\nQUEUE_RETRY_AFTER=7\n")
    monkeypatch.setenv("QUEUE_MAX_TRIES", "4")
    settings = config.load()
    assert (settings.queue_max_tries, settings.queue_retry_after) == (4, 7)


def test_a_password_that_begins_with_a_dollar_is_not_taken_for_another_variable(env_file):
    env_file.write_text("REDIS_HOST=r\nREDIS_PASSWORD=$HOME\n")
    assert config.load({"HOME": "/root"}, env_file).redis_url == "redis://:%24HOME@r:6379/0"


@pytest.mark.parametrize("name", ["QUEUE_CONECTION", "MAIL_HOST", "STRIPE_KEY"])
def test_any_unknown_name_in_the_file_is_refused_unless_it_is_listed_in_others(env_file, name):
    env_file.write_text(f"{name}=secret\n")
    with pytest.raises(
        SettingsError, match=f"expected every setting in .*env to be a known one, got '{name}'"
    ) as bad:
        config.load({}, env_file)
    assert "secret" not in str(bad.value)
    assert config.load({}, env_file, others=[name[:5] + "*"])


@pytest.mark.parametrize(
    "line", ["QUEUE_MAX_TRIES = 3", "secret", "  QUEUE_MAX_TRIES=3", "QUEUE-MAX=3", "=3"]
)
def test_a_line_that_is_not_a_setting_is_refused_by_its_number(env_file, line):
    env_file.write_text(f"# one\n{line}\n")
    with pytest.raises(SettingsError) as refused:
        config.load({}, env_file)
    assert (
        str(refused.value) == f"expected line 2 of {env_file} to be NAME=value or to start with #"
    )


def test_a_missing_file_is_an_empty_one_and_an_unreadable_one_is_an_error(env_file):
    assert config.load({}, env_file) == load()
    env_file.write_bytes(b"QUEUE_BACKOFF=\xff\n")
    with pytest.raises(SettingsError, match="to be a readable text file, got: UnicodeDecodeError"):
        config.load({}, env_file)
    with pytest.raises(SettingsError, match="to be a readable text file, got: IsADirectoryError"):
        config.load({}, env_file.parent)


def test_a_file_saved_by_windows_is_read(env_file):
    env_file.write_bytes("\ufeffQUEUE_MAX_TRIES=3\r\nQUEUE_RETRY_AFTER=9\r\n".encode())
    assert config.load({}, env_file).queue_max_tries == 3


# --- the value ------------------------------------------------------------------------------------


def test_settings_cannot_be_changed():
    settings = load()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.queue_max_tries = 3
    with pytest.raises(TypeError):
        settings.connections["redis"] = settings.connection


def test_settings_reach_a_spawned_process():
    settings = load(REDIS_HOST="r")
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert copy.deepcopy(settings) == settings


# --- what is written about them -------------------------------------------------------------------


def commented(line: str) -> bool:
    return re.match(r"#[A-Z_]+=", line) is not None


def test_the_example_file_has_every_setting_and_no_other():
    names = [
        line[1:].partition("=")[0] for line in EXAMPLE.read_text().splitlines() if commented(line)
    ]
    assert sorted(names) == sorted(config.NAMES + settings.NAMES)


def test_the_example_file_can_be_copied_as_it_is():
    assert config.load({}, EXAMPLE) == load()


def test_the_values_in_the_example_file_are_good(env_file):
    lines = EXAMPLE.read_text().splitlines()
    env_file.write_text("\n".join(line[1:] if commented(line) else line for line in lines))
    assert config.load({}, env_file, ["APP_*"]).connection == load().connection
    assert settings.load({}, env_file).url == settings.load({}, None).url


def test_the_settings_page_has_every_setting_and_no_other():
    rows = re.findall(
        r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE
    )
    assert sorted(rows) == sorted(config.NAMES + settings.NAMES)


def test_the_settings_page_has_every_connection():
    rows = re.findall(
        r"^\| `([a-z-]+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE
    )
    assert tuple(rows) == config.CONNECTIONS


def test_every_field_of_the_settings_says_what_it_is():
    source = Path(config.__file__).read_text()
    for field in (*dataclasses.fields(Settings), *dataclasses.fields(config.Connection)):
        assert re.search(rf"    #: .+\n    {field.name}: ", source), field.name
