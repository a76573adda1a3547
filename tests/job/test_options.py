"""The options of a task: read from its definition, checked there, filled in by the project's
defaults.
"""

import pytest

from relevo import config
from relevo.app import create_app
from relevo.errors import OptionError
from relevo.job.options import POLICY, Options


def nothing(): ...


BAD = [
    ("tries", 0, "expected tries to be a positive integer, got 0 (task 'images.process')"),
    ("tries", True, "expected tries to be a positive integer, got True"),
    ("tries", 1.5, "got 1.5"),
    ("tries", "3", "got '3'"),
    ("max_exceptions", -1, "expected max_exceptions to be a positive integer, got -1"),
    ("timeout", 0, "expected timeout to be a positive number of seconds, got 0"),
    ("timeout", float("nan"), "got nan"),
    ("timeout", float("inf"), "got inf"),
    (
        "retry_until",
        -5,
        "expected retry_until to be a positive number of seconds after the dispatch, got -5",
    ),
    (
        "backoff",
        [],
        (
            "expected backoff to be seconds, a list of seconds or a callable that takes the "
            "attempt, got []"
        ),
    ),
    ("backoff", [1, -1], "got [1, -1]"),
    ("backoff", "10", "got '10'"),
    ("jitter", 2, "expected jitter to be a number from 0 to 1, got 2"),
    ("fail_on_timeout", 1, "expected fail_on_timeout to be True or False, got 1"),
    (
        "tags",
        "one",
        "expected tags to be a list of texts or a callable that returns one, got 'one'",
    ),
    ("tags", [1], "got [1]"),
    ("queue", "", "expected queue to be the name of a queue, got ''"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_bad_option_is_refused_where_the_task_is_defined(app, name, value, message):
    task = app.task(name="images.process", **{name: value})(nothing)
    with pytest.raises(OptionError) as refused:
        task.run()
    assert message in str(refused.value)


def test_options_are_read_off_the_definition(app):
    @app.task(
        tries=3, backoff=[10, 30, 60], timeout=300, retry_until=600, max_exceptions=2, tags=["a"]
    )
    def process(): ...

    options = process.options
    assert (options.tries, options.backoff, options.timeout) == (3, (10, 30, 60), 300)
    assert (options.retry_until, options.max_exceptions, options.tags) == (600, 2, ["a"])
    assert process.time_limit == 300


def test_a_base_class_gives_its_options_to_tasks_that_say_nothing_else(app):
    class Patient(app.Task):
        abstract = True
        tries, backoff = 5, 60

    @app.task(base=Patient, tries=2)
    def process(): ...

    assert (process.options.tries, process.options.backoff) == (2, (60,))


def test_a_class_based_task_has_options_too(app):
    class Process(app.Task):
        name = "images.process"
        tries = 2

        def run(self):
            raise ValueError(self.attempt)

    result = app.register_task(Process).sync()
    assert str(result.result) == "2"


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ({"tries": 3, "max_retries": 5}, "expected tries or Celery's max_retries, got both"),
        (
            {"backoff": 3, "autoretry_for": (ValueError,)},
            "expected backoff or Celery's autoretry_for, got both",
        ),
        ({"timeout": 3, "time_limit": 5}, "expected timeout or Celery's time_limit, got both"),
    ],
)
def test_our_options_and_celerys_for_the_same_thing_are_refused_together(app, says, message):
    task = app.task(**says)(nothing)
    with pytest.raises(OptionError, match=message):
        task.run()


def test_options_without_retries_leave_retries_to_celery(app):
    @app.task(queue="high", timeout=5, tags=["a"], autoretry_for=(ValueError,))
    def process(): ...

    assert not process.options.has_retry_policy
    assert not process.is_wrapped


def test_a_queue_that_is_not_declared_is_refused_with_the_likely_one(app_with_queues):
    task = app_with_queues.task(name="images.process", queue="hihg")(nothing)
    with pytest.raises(
        OptionError, match="no queue named 'hihg' in task_queues; did you mean 'high'"
    ):
        task.run()


def test_the_projects_defaults_fill_in_a_tasks_missing_options(app_with_defaults):
    app = app_with_defaults(4, (7, 8))
    open_, counted, patient = (
        app.task(name=str(says), **says)(nothing)
        for says in ({"jitter": 1}, {"tries": 2}, {"backoff": 1})
    )
    assert (open_.options.tries, open_.options.backoff) == (4, (7, 8))
    assert (counted.options.tries, counted.options.backoff) == (2, (7, 8))
    assert (patient.options.tries, patient.options.backoff) == (4, (1,))


def test_the_projects_tries_count_for_tasks_without_options_but_not_for_those_with_celerys(
    app_with_defaults,
):
    app = app_with_defaults(4)
    silent, autoretry, counted = (
        app.task(name=str(says), **says)(nothing)
        for says in ({}, {"autoretry_for": (OSError,)}, {"max_retries": 9})
    )
    assert silent.is_wrapped
    assert silent.options.tries == 4
    assert not autoretry.is_wrapped
    assert not counted.is_wrapped
    assert not app.tasks["celery.backend_cleanup"].is_wrapped


def test_with_one_try_a_task_without_options_is_plain_celery(app_with_defaults):
    task = app_with_defaults(1).task(nothing)
    assert not task.is_wrapped
    assert not task.options.has_retry_policy


def test_nothing_but_time_ends_a_task_that_only_has_a_deadline():
    options = Options().with_given({"retry_until": 600}, "shop.task").with_defaults(3, ())
    assert options.has_no_limit
    assert POLICY & options.given


class TestAtTheDefinition:
    """In an app of ours nothing waits for the first use."""

    @pytest.fixture
    def shop(self, tmp_path):
        return create_app("shop", config.load({"RELEVO_VAR_DIR": str(tmp_path)}, env_file=None))

    @pytest.mark.parametrize(("name", "value", "message"), BAD)
    def test_a_bad_option_is_an_error_of_the_decorator(self, shop, name, value, message):
        with pytest.raises(OptionError) as refused:
            shop.task(name="images.process", **{name: value})(nothing)
        assert message in str(refused.value)

    @pytest.mark.parametrize(
        ("says", "message"),
        [
            ({"tries": 3, "max_retries": 5}, "expected tries or Celery's max_retries, got both"),
            ({"timeout": 3, "time_limit": 5}, "expected timeout or Celery's time_limit, got both"),
            ({"unique_by": ["file"]}, "to name arguments of task .*, which takes none, got 'file'"),
            ({"unique_for": 3}, "expected unique_by beside unique_for"),
        ],
    )
    def test_options_that_exclude_each_other_are_an_error_of_the_decorator(
        self, shop, says, message
    ):
        with pytest.raises(OptionError, match=message):
            shop.task(name="images.process", **says)(nothing)

    def test_a_task_without_a_name_is_called_by_its_function(self, shop):
        with pytest.raises(OptionError, match=r"task 'tests.job.test_options.nothing'"):
            shop.task(tries=0)(nothing)

    def test_the_options_of_a_base_class_count(self, shop):
        class Once(shop.Task):
            abstract, unique_by = True, []

        assert shop.task(base=Once, unique_for=5, shared=False)(nothing).options.unique_for == 5

    def test_celerys_forms_of_the_decorator_work(self, shop):
        assert shop.task(nothing, shared=False).name.endswith("nothing")
        assert shop.task(shared=False, name="a")(nothing).name == "a"
