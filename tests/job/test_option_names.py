"""A name that was meant as one of our options is refused; Celery's and a project's own are not."""

from __future__ import annotations

import warnings
from inspect import signature

import celery
import pytest
from celery import shared_task
from celery.app.amqp import AMQP
from hypothesis import given
from hypothesis import strategies as st
from kombu import Producer

from relevo import config
from relevo.app import create_app
from relevo.errors import OptionError
from relevo.job import option_names
from relevo.job.options import NAMES, OVERRIDES

# What projects on plain Celery write beside Celery's options: packages' keywords, and attributes
# that their signals and base classes read.
CUSTOM = {
    "once": {"graceful": True},
    "lock_expiry": 60,
    "raise_on_duplicate": True,
    "track": True,
    "owner": "billing",
    "description": "sends mails",
    "category": "mail",
    "version": 2,
    "labels": ["a"],
    "label": "a",
    "max_concurrency": 3,
    "limits": [1],
    "time_budget": 5,
    "sentry_tags": {},
    "log_args": True,
    "verbose_name": "Mail",
    "connection": object(),
    "session": None,
    "entries": 3,
    "times": 3,
    "timezone": "UTC",
    "timer": 1,
    "middle": 1,
    "uniqueness": 1,
    "backend_name": "x",
    "flags": ["a"],
    "retry_policy": {},
    "countdown": 5,
    "on_config": 1,
    "retry_on": (OSError,),
}
CELERYS = {
    "autoretry_for": (OSError,),
    "dont_autoretry_for": (KeyError,),
    "retry_kwargs": {"max_retries": 5},
    "retry_backoff": True,
    "retry_backoff_max": 700,
    "retry_jitter": False,
    "max_retries": 5,
    "default_retry_delay": 3,
    "rate_limit": "5/s",
    "ignore_result": True,
    "trail": False,
    "send_events": False,
    "store_errors_even_if_ignored": True,
    "serializer": "json",
    "time_limit": 5,
    "soft_time_limit": 4,
    "track_started": True,
    "acks_late": True,
    "acks_on_failure_or_timeout": True,
    "reject_on_worker_lost": True,
    "throws": (KeyError,),
    "expires": 60,
    "priority": 3,
    "exchange": "shop",
    "routing_key": "shop",
    "delivery_mode": 1,
    "typing": False,
    "bind": True,
    "resultrepr_maxsize": 10,
    "on_failure": lambda *_: None,
}

WORDS = [
    ("trys", 3, "no option named 'trys'; did you mean 'tries'? (task 'shop.task')"),
    ("max_tries", 3, "did you mean 'tries'?"),
    ("retries", 3, "did you mean 'tries'?"),
    ("retryUntil", 3, "did you mean 'retry_until'?"),
    ("unique_on", ["a"], "did you mean 'unique_"),
    ("connection", "redis-long", "task.on_connection(name).dispatch(…)"),
    ("encrypted", True, "arguments aren't encrypted; 'redact' hides them from people"),
    ("fail_on", OSError, "call self.fail(error)"),
    ("delay", 60, "'delay' is a method of every task and can't be an option, got 60"),
    ("delay", 60, "say it at the dispatch: task.delay_for(60).dispatch(…)"),
    ("retry", 3, "did you mean 'tries'?"),
    ("dispatch", True, "'dispatch' is a method of every task"),
]


@st.composite
def slips(draw):
    """One of our options, with one slip of the pen behind its first letter."""
    name = draw(st.sampled_from(sorted(NAMES)))
    at = draw(st.integers(1, len(name) - 2))
    slip = draw(st.sampled_from(["drop", "double", "swap", "change", "camel", "join"]))
    letter = draw(st.sampled_from("aeioxz"))
    made = {
        "drop": name[:at] + name[at + 1 :],
        "double": name[:at] + name[at] + name[at:],
        "swap": name[:at] + name[at + 1] + name[at] + name[at + 2 :],
        "change": name[:at] + letter + name[at + 1 :],
        "camel": "".join(name.title().split("_")),
        "join": name.replace("_", ""),
    }[slip]
    return name, made


@pytest.fixture
def shop(tmp_path):
    return create_app("shop", config.load({"RELEVO_VAR_DIR": str(tmp_path)}, env_file=None))


def nothing(*args): ...


def share(app, **options):
    # An app of another test that is still there makes the task at once.
    shared_task(**options)(nothing)
    app.finalize()


@given(slips())
def test_one_slip_in_any_option_is_told_with_the_likely_name(slip):
    name, made = slip
    if made in NAMES:
        return
    hint = option_names.likely(made, NAMES)
    assert hint is not None
    # Two of them are one letter apart from some slips: unique_by and unique_for, say.
    assert hint.split("'")[1][:4] == name[:4]


@given(slips())
def test_one_slip_is_refused_at_the_definition_and_at_the_dispatch(slip):
    name, made = slip
    if made in NAMES or name == "timeout":  # at a dispatch that word is kombu's
        return
    with pytest.raises(OptionError, match="did you mean"):
        option_names.refuse_in_definition("shop.task", {made: 3}, celery.Task)
    with pytest.raises(OptionError, match=r"did you mean|definition"):
        option_names.refuse_in_dispatch("shop.task", {made: 3})


@pytest.mark.parametrize(("name", "value", "message"), WORDS)
def test_a_word_that_means_ours_is_refused_by_the_decorator(shop, name, value, message):
    with pytest.raises(OptionError) as refused:
        shop.task(name="shop.task", **{name: value})(nothing)
    assert message in str(refused.value)


@pytest.mark.parametrize(("name", "value", "message"), WORDS)
def test_a_word_that_means_ours_is_refused_in_a_shared_task_at_its_first_use(
    shop, name, value, message
):
    with pytest.raises(OptionError) as refused:
        share(shop, name="shop.task", **{name: value})
    assert message in str(refused.value)


@pytest.mark.parametrize("value", [{"trys": 3}, {"tag": ["a"]}, {"delay": 60}, {"retryUntil": 3}])
def test_a_class_that_is_a_task_is_told_too(shop, value):
    with pytest.raises(OptionError, match=r"mean|delay_for"):
        type("Process", (shop.Task,), {"name": "shop.task", "run": lambda _: None, **value})


def test_what_a_base_class_has_is_its_own(shop):
    class Singleton(shop.Task):
        abstract, tag, unique_on, connection = True, None, None, "main"

        def retries(self): ...

    task = shop.task(base=Singleton, tag="a", unique_on=["b"], connection="other", shared=False)(
        nothing
    )
    assert (task.tag, task.unique_on, task.connection) == ("a", ["b"], "other")


def test_a_class_keeps_methods_and_properties_of_any_name(shop):
    class Process(shop.Task):
        name = "shop.task"
        connection = "main"

        def run(self): ...

        @property
        def tag(self):
            return "a"

    assert shop.register_task(Process).tag == "a"


def test_celerys_options_and_a_projects_own_stay(shop):
    for number, (name, value) in enumerate({**CUSTOM, **CELERYS}.items()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            task = shop.task(name=f"shop.{number}", shared=False, **{name: value})(nothing)
        if name not in {"bind", "on_failure"}:
            assert getattr(task, name) == value


def test_every_attribute_and_keyword_of_celerys_is_left_alone():
    keywords = {
        *vars(celery.Task),
        *signature(celery.Celery.task).parameters,
        *signature(celery.Celery._task_from_fun).parameters,
        *CELERYS,
    }
    taken = {name for name in keywords if option_names.likely(name, NAMES)}
    assert not taken
    ours_too = OVERRIDES | {"timeout", "queue", "connection", "session"}
    for function in (celery.Celery.send_task, AMQP.as_task_v2, AMQP.as_task_v1, Producer.publish):
        options = dict.fromkeys(signature(function).parameters.keys() - ours_too)
        option_names.refuse_in_dispatch("shop.task", options)


AT_DISPATCH = [
    ({"trys": 3}, "'trys' can't be given at dispatch; did you mean 'tries'? (task 'shop.task')"),
    ({"delay": 60}, "did you mean 'countdown'?"),
    ({"delay_for": 60}, "did you mean 'countdown'?"),
    ({"at": 60}, "did you mean 'eta'?"),
    ({"on_queue": "high"}, "did you mean 'queue'?"),
    ({"conection": "redis"}, "did you mean 'connection'?"),
    ({"encrypted": True}, "arguments aren't encrypted"),
    ({"fail_on": OSError}, "call self.fail(error)"),
    ({"debounce": 3}, "'debounce' can't be given at dispatch; it is an option of the task's"),
    ({"redact": True}, "it is an option of the task's definition"),
]


@pytest.mark.parametrize(("options", "message"), AT_DISPATCH)
@pytest.mark.parametrize(
    "dispatch",
    [
        lambda task, options: task.apply_async((), **options),
        lambda task, options: task.apply((), **options),
        lambda task, options: task.s().set(**options).apply_async(),
        lambda task, options: task.with_options(**options),
    ],
)
def test_a_dispatch_is_told_too(app, sent, dispatch, options, message):
    task = app.task(name="shop.task", tries=2)(nothing)
    with pytest.raises(OptionError) as refused:
        dispatch(task, options)
    assert message in str(refused.value)
    assert not sent


def test_a_projects_own_properties_and_stamps_travel_as_before(app, sent):
    task = app.task(name="shop.task")(nothing)
    task.apply_async((), message_id="a", tag=["b"], stamped_headers=["tag"])
    assert (sent[0].message_id, sent[0].tag) == ("a", ["b"])
