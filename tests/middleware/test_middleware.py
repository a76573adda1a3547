"""Middlewares around the run of a job: their order, their ways to end it, and what is refused."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from relevo import config
from relevo.app import create_app
from relevo.database.engine import engine_for
from relevo.errors import JobFailedError, OptionError
from relevo.job.outcome import Cancelled, Released, cancel_reason
from relevo.middleware import Middleware, RunningJob, Skip, Transaction, session
from relevo.testing import fake
from tests.support.memory_app import make_app


def nothing(): ...


class Noted(Middleware):
    """Notes its calls, and does what the test says instead of going on."""

    def __init__(self, name, seen, instead=None):
        self.name, self.seen, self.instead = name, seen, instead

    def handle(self, job, call_next):
        self.seen.append(f"{self.name}>")
        try:
            return self.instead(job) if self.instead else call_next()
        finally:
            self.seen.append(f"<{self.name}")


@pytest.fixture
def seen():
    return []


@pytest.fixture
def task(app, seen):
    """Make a task with these options, whose body says that it ran."""

    def make(body=lambda: "done", **options):
        def run(*args, **kwargs):
            seen.append("run")
            return body(*args, **kwargs)

        return app.task(**options)(run)

    return make


def test_the_first_of_the_list_is_the_outermost(task, seen):
    assert task(middleware=[Noted("a", seen), Noted("b", seen)]).sync().result == "done"
    assert seen == ["a>", "b>", "run", "<b", "<a"]


def test_a_middleware_gets_the_job_with_its_options(task):
    got = []

    def look(job, call_next):
        got.append(job)
        return call_next()

    noted = task(lambda number, size: None, middleware=[look], tries=3, tags=["a"])
    noted.with_options(tries=5).sync(7, size=150)
    [job] = got
    assert isinstance(job, RunningJob)
    assert (job.task, job.args, job.kwargs, job.attempt, job.tags) == (
        noted.name,
        (7,),
        {"size": 150},
        1,
        ("a",),
    )
    assert (job.options.tries, job.lease, job.app) == (5, None, noted.app)


def test_a_function_can_be_a_middleware_and_its_value_is_the_result(task):
    assert task(middleware=[lambda _job, call_next: call_next() + "!"]).sync().result == "done!"


def test_an_error_of_a_middleware_is_an_error_of_the_attempt(task, seen):
    def broken(job, call_next):
        if job.attempt == 1:
            raise ValueError("mine")
        return call_next()

    assert task(middleware=[broken], tries=2).sync().result == "done"
    assert str(task(middleware=[broken]).sync().result) == "mine"
    assert seen == ["run"]


def test_a_middleware_sees_the_errors_of_the_job(task):
    errors = []

    def watch(_job, call_next):
        try:
            return call_next()
        except ZeroDivisionError as error:
            errors.append(error)
            raise

    assert task(lambda: 1 / 0, middleware=[watch], tries=3).sync().state == "FAILURE"
    assert len(errors) == 3


def test_a_release_burns_no_attempt(task, seen):
    process = task(middleware=[Noted("a", seen, lambda job: job.release(60))], tries=1)
    with fake(app=process.app) as fakes:
        attempt = fakes.run(process)
    attempt.assert_released(60)
    assert seen == ["a>", "<a"]


def test_a_release_needs_no_other_option(task, seen):
    process = task(middleware=[Noted("a", seen, lambda job: job.release())])
    with fake(app=process.app) as fakes:
        assert fakes.run(process).outcome == Released(0)


def test_a_release_for_no_time_is_an_error(task):
    assert isinstance(
        task(middleware=[lambda job, _next: job.release(-1)]).sync().result, OptionError
    )


def test_a_fail_ends_a_job_that_has_tries_left(task, seen):
    process = task(middleware=[Noted("a", seen, lambda job: job.fail("no more"))], tries=5)
    failures = []
    process.failed(lambda job, error: failures.append((job.attempt, str(error))))
    assert isinstance(process.sync().result, JobFailedError)
    assert (failures, seen) == ([(1, "no more")], ["a>", "<a"])


def test_a_skipped_job_does_not_run_and_its_callbacks_do(app, task, seen):
    process = task(middleware=[Noted("a", seen, lambda job: job.skip("sold out"))], tries=3)

    @app.task
    def after(result):
        seen.append(result)

    with fake(app=app) as fakes:
        (process.s() | after.s()).apply_async()
        first, _ = fakes.drain()
    first.assert_cancelled("sold out")
    assert seen == ["a>", "<a", None]
    assert process.sync().result is None


def test_a_result_that_reads_like_a_cancellation_is_none():
    assert cancel_reason(repr(Cancelled("x"))) == "x"
    assert cancel_reason(repr(repr(Cancelled("x")))) is None
    assert cancel_reason(None) is None


def test_the_apps_middlewares_are_for_tasks_without_their_own(seen):
    app = create_app("shop", config.load({}, env_file=None), middleware=[Noted("app", seen)])
    own = app.task(name="own", middleware=[Noted("own", seen)])(nothing)
    none = app.task(name="none", middleware=[])(nothing)
    silent = app.task(name="silent")(nothing)
    for task in (own, none, silent):
        task.apply()
    assert seen == ["own>", "<own", "app>", "<app"]
    assert not none.is_wrapped
    assert not app.tasks["celery.backend_cleanup"].is_wrapped


def test_a_dispatch_chooses_among_the_middlewares_of_its_task(task, seen):
    process = task(middleware=[Noted("a", seen), Noted("b", seen)])
    process.with_options(middleware=["b", "a"]).sync()
    process.with_options(middleware=[]).sync()
    process.apply((), middleware=["a"])
    assert seen == ["b>", "a>", "run", "<a", "<b", "run", "a>", "run", "<a"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["nosied"],
            "no middleware named 'nosied' around task 'images.process'; did you mean 'noised'?",
        ),
        (["other"], "no middleware named 'other' around task 'images.process', which has noised"),
        (
            "noised",
            "expected middleware to be a list of names, as a dispatch gives it, got 'noised'",
        ),
        ([7], "got [7]"),
    ],
)
def test_a_dispatch_can_not_bring_a_new_one(task, seen, names, message):
    process = task(name="images.process", middleware=[Noted("noised", seen)])
    with pytest.raises(OptionError) as refused:
        process.with_options(middleware=names)
    assert message in str(refused.value)
    with pytest.raises(OptionError):
        process.apply_async((), middleware=names)


def test_unknown_middlewares_in_a_foreign_message_are_ignored(task, seen):
    process = task(middleware=[Noted("a", seen)])
    for names in (["b"], 7, [[]], None):
        process.apply(headers={"relevo": {"override": {"middleware": names}}})
    assert seen == ["a>", "run", "<a"] * 4


@pytest.mark.parametrize(
    "bad", [Middleware, [Middleware], [7], ["skip"], [lambda job: None], {"a": Middleware()}]
)
def test_an_invalid_list_of_middlewares_is_refused(app, bad):
    task = app.task(name="images.process", middleware=bad)(nothing)
    with pytest.raises(
        OptionError, match=r"expected middleware to be a list of middlewares: .* \(task 'i"
    ):
        task.run()


class TestWithCelerysRetries:
    """Celery's `autoretry_for` stands outside of the middlewares."""

    @pytest.fixture
    def patient(self, task, seen):
        return task(
            lambda: 1 / 0, middleware=[Noted("a", seen)], autoretry_for=(Exception,), max_retries=1
        )

    def test_middlewares_run_around_each_attempt(self, patient, seen):
        assert isinstance(patient.sync().result, ZeroDivisionError)
        assert seen == ["a>", "run", "<a"] * 2

    def test_the_hook_runs_once_when_celery_has_given_up(self, patient, seen):
        patient.failed(lambda _job, error: seen.append(type(error)))
        patient.sync()
        assert seen == ["a>", "run", "<a", "a>", "run", "<a", ZeroDivisionError]

    def test_a_release_is_no_error_to_be_retried(self, task, seen):
        process = task(middleware=[lambda job, _next: job.release(5)], autoretry_for=(Exception,))
        with fake(app=process.app) as fakes:
            fakes.run(process).assert_released(5)


class TestSkip:
    def test_skip_takes_a_when_and_an_unless(self, task, seen):
        closed = task(
            lambda _n: "done",
            middleware=[Skip(when=lambda job: job.args[0] > 1, reason="too many")],
        )
        paid = task(lambda _n: "done", middleware=[Skip(unless=lambda job: job.args[0])])
        assert [closed.sync(number).result for number in (0, 2)] == ["done", None]
        assert [paid.sync(number).result for number in (0, 2)] == [None, "done"]
        with fake(app=closed.app) as fakes:
            fakes.run(closed, 2).assert_cancelled("too many")
            fakes.run(paid, 0).assert_cancelled("`unless`")

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, "got neither"),
            ({"when": True}, "expected when of Skip to be a callable that takes the job, got True"),
        ],
    )
    def test_an_invalid_skip_is_an_error_with_the_expected_value(self, given, message):
        with pytest.raises(OptionError, match=message):
            Skip(**given)


class TestTransaction:
    @pytest.fixture
    def shop(self, tmp_path):
        settings = config.load(
            {"DATABASE_URL": f"sqlite:///{tmp_path}/shop.db", "RELEVO_VAR_DIR": str(tmp_path)}, None
        )
        with engine_for(settings.database_url).begin() as connection:
            connection.execute(text("CREATE TABLE orders (id INTEGER)"))
        return create_app("shop", settings)

    @pytest.fixture
    def orders(self, shop):
        def ids():
            with engine_for(
                shop.settings.database_url
            ).begin() as connection:  # left open it would keep SQLite's lock
                return list(connection.execute(text("SELECT id FROM orders")).scalars())

        return ids

    @pytest.fixture
    def pay(self, shop):
        @shop.task(name="pay", bind=True, tries=2, middleware=[Transaction()], shared=False)
        def pay(self, order, end="return"):
            session().execute(text("INSERT INTO orders VALUES (:id)"), {"id": order + self.attempt})
            match end:
                case "error" if self.attempt == 1:
                    raise ValueError
                case "release":
                    self.release(5)
                case "fail":
                    self.fail("no")
                case "retry":
                    raise self.retry(countdown=0) if self.attempt == 1 else ValueError

        return pay

    def test_a_job_that_returns_is_committed_and_one_that_raises_is_rolled_back(self, pay, orders):
        assert pay.sync(10).state == "SUCCESS"
        assert orders() == [11]
        for end in ("release", "fail", "retry"):
            pay.sync(20, end)
            assert orders() == [11]
        assert pay.sync(30, "error").state == "SUCCESS"
        assert orders() == [11, 32]

    def test_a_commit_that_fails_is_an_error_of_the_attempt(self, shop, orders):
        class Full:
            def __init__(self):
                self.times = 0

            def __call__(self):
                from sqlalchemy import event  # noqa: PLC0415
                from sqlalchemy.orm import Session  # noqa: PLC0415

                self.times += 1
                made = Session(engine_for(shop.settings.database_url))
                if self.times == 1:
                    event.listen(made, "before_commit", lambda _session: 1 / 0)
                return made

        @shop.task(name="full", tries=2, middleware=[Transaction(Full())], shared=False)
        def full():
            session().execute(text("INSERT INTO orders VALUES (1)"))

        assert full.sync().state == "SUCCESS"
        assert orders() == [1]

    def test_there_is_no_session_outside_of_a_transaction(self, pay):
        with pytest.raises(OptionError, match=r"give its task middleware=\[Transaction\(\)\]"):
            session()

    def test_a_transaction_in_an_app_without_a_database_is_an_error(self):
        process = make_app().task(middleware=[Transaction()])(nothing)
        assert "has no database" in str(process.sync().result)

    def test_an_invalid_transaction_is_an_error_with_the_expected_value(self):
        with pytest.raises(OptionError, match="expected sessions of Transaction to be a callable"):
            Transaction("sqlite://")
