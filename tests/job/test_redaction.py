"""Redacted arguments are shown nowhere, and the job still gets them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from relevo import config
from relevo.app import create_app
from relevo.cli.message_fields import arguments_of
from relevo.drivers import driver_for, message_codec
from relevo.drivers.contract import State
from relevo.errors import OptionError
from relevo.job import redaction
from relevo.job import silenced as silence
from relevo.job.redaction import HIDDEN
from relevo.operations import retry
from relevo.store.failed import FailedJob


def make(tmp_path, **environ):
    app = create_app(
        "shop",
        config.load(
            {
                "DATABASE_URL": f"sqlite:///{tmp_path}/r.db",
                "RELEVO_VAR_DIR": str(tmp_path),
                "QUEUE_RESULTS": "none",
                **environ,
            },
            env_file=None,
        ),
    )

    @app.task(name="login", shared=False)
    def login(user, password, options=None, *, api_key=None):
        """The names of its arguments say what is secret."""

    @app.task(name="pay", redact=["card"], shared=False)
    def pay(order, card):
        """One is secret here only."""

    @app.task(name="whisper", redact=True, shared=False)
    def whisper(*words, **more):
        """All are."""

    @app.task(name="cleanup", bind=True, silenced=True, shared=False)
    def cleanup(self):
        """A silenced task."""

    return app


@pytest.fixture
def app(tmp_path):
    return make(tmp_path)


@pytest.mark.parametrize(
    ("task", "args", "kwargs", "shown"),
    [
        ("login", ["ann", "geheim"], {}, (["ann", HIDDEN], {})),
        (
            "login",
            ["ann"],
            {"password": "geheim", "api_key": "x"},
            (["ann"], {"password": HIDDEN, "api_key": HIDDEN}),
        ),
        (
            "login",
            ["ann", "geheim", {"apiKey": 1, "API-KEY": 2, "x": [{"userToken": 3, "y": 4}]}],
            {},
            (
                [
                    "ann",
                    HIDDEN,
                    {"apiKey": HIDDEN, "API-KEY": HIDDEN, "x": [{"userToken": HIDDEN, "y": 4}]},
                ],
                {},
            ),
        ),
        ("pay", [7, "4111"], {}, ([7, HIDDEN], {})),
        ("pay", [7], {"card": {"number": 1}}, ([7], {"card": HIDDEN})),
        ("whisper", [1, [2]], {"a": None}, ([HIDDEN, HIDDEN], {"a": HIDDEN})),
        (
            "nobody knows it",
            [{"password": 1}, 2],
            {"secret": 3},
            ([{"password": HIDDEN}, 2], {"secret": HIDDEN}),
        ),
        ("login", [], {1: 2}, ([], {1: 2})),
    ],
)
def test_arguments_are_shown_without_the_redacted_ones(app, task, args, kwargs, shown):
    assert redaction.redacted_arguments(app, task, args, kwargs) == shown
    assert HIDDEN not in str((args, kwargs))


def test_endlessly_nested_arguments_are_hidden_and_no_error(app):
    deep: list = []
    for _ in range(500):
        deep = [deep]
    assert HIDDEN in str(redaction.redacted_arguments(app, "login", ["a", "b", deep], {}))


@pytest.mark.parametrize(
    ("task", "args", "kwargs", "said"),
    [
        ("images", "(7,)", "{'size': 1}", "(7,) {'size': 1}"),
        ("images", "(7,)", "{'db_password': 'x'}", "(7,) {'db_password': '[redacted]'}"),
        ("images", "(7,)", "{'password': <object at 0x7f>}", HIDDEN),
        ("images", "(7,)", "{'password': 'cut he...", HIDDEN),
        ("pay", "(7, 'x')", "{}", "(7, '[redacted]') {}"),
        ("pay", "(7, 'cut", "{}", HIDDEN),
        ("whisper", "7", None, HIDDEN),
        ("images", None, None, " "),
    ],
)
def test_the_text_of_another_client_is_redacted_or_hidden_whole(app, task, args, kwargs, said):
    assert redaction.redacted_reprs(app, task, args, kwargs) == said


@pytest.mark.parametrize("way", ["one", "by name", "batch"])
def test_a_message_shows_redacted_arguments_and_carries_the_real_ones(app, way):
    sent = {
        "one": lambda: app.tasks["login"].delay("ann", "geheim"),
        "by name": lambda: app.send_task("login", ("ann", "geheim")),
        "batch": lambda: app.batch(
            app.tasks["login"].s("ann", "geheim") for _ in range(3)
        ).dispatch(),
    }
    sent[way]()
    for view in driver_for(app.conf.broker_url).peek("default", State.PENDING):
        message = message_codec.loads(view.payload)
        assert message["headers"]["argsrepr"] == "('ann', '[redacted]')"
        assert json.loads(message["body"])[0] == ["ann", "geheim"]
        assert arguments_of(app, view.payload) == "('ann', '[redacted]') {}"


def test_an_edited_job_keeps_its_redacted_arguments(app):
    app.tasks["login"].delay("ann", "geheim", {"token": "t", "n": 1})
    (view,) = driver_for(app.conf.broker_url).peek("default", State.PENDING)
    job = FailedJob(
        uuid="1",
        queue="default",
        connection="database",
        payload=view.payload,
        exception="",
        message="",
        failed_at=0.0,
        task="login",
    )
    seen, _ = redaction.redacted_arguments(app, "login", *retry.arguments(view.payload))
    seen[0], seen[2]["n"] = "bob", 2
    again = message_codec.loads(retry.with_arguments(app, job, seen, {"api_key": "new"}).payload)
    assert json.loads(again["body"])[:2] == [
        ["bob", "geheim", {"token": "t", "n": 2}],
        {"api_key": "new"},
    ]
    assert again["headers"]["argsrepr"] == "('bob', '[redacted]', {'token': '[redacted]', 'n': 2})"
    assert "geheim" not in str(again["headers"])


def test_redaction_can_be_switched_off(tmp_path):
    app = make(tmp_path, RELEVO_REDACT="none")
    assert redaction.redacted_arguments(app, "login", ["ann", "geheim"], {}) == (
        ["ann", "geheim"],
        {},
    )
    assert redaction.redacted_arguments(app, "pay", [7, "x"], {}) == ([7, HIDDEN], {})


@pytest.mark.parametrize("given", ["card", [7], False, {"card": 1}])
def test_names_to_hide_are_a_list_of_texts_or_all(app, given):
    with pytest.raises(
        OptionError, match="expected redact to be a list of names of arguments, or True"
    ):
        app.task(name="bad", redact=given, shared=False)(lambda: None)


@pytest.mark.parametrize(
    ("name", "tags", "silenced"),
    [
        ("cleanup", (), True),
        ("login", (), False),
        ("metrics.count", (), True),
        ("login", ("a", "heartbeat:7"), True),
        ("tag:heartbeat", (), False),
        ("nobody", ("x",), False),
    ],
)
def test_jobs_are_silenced_by_task_by_tag_and_by_option(tmp_path, name, tags, silenced):
    app = make(tmp_path, RELEVO_SILENCED="metrics.*, tag:heartbeat:*")
    assert silence.is_silenced(app, name, tags) is silenced


def test_an_app_without_settings_hides_nothing():
    app = SimpleNamespace(tasks={})
    assert redaction.redacted_arguments(app, "x", [1], {"password": 2}) == ([1], {"password": 2})
