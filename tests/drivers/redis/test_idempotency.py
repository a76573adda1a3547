"""Lost answers: a put is not done twice, and a reservation that was never seen is undone."""

from __future__ import annotations

import contextlib
import os

import pytest
import redis

from relevo.drivers.redis import idempotency, scripts
from relevo.errors import DriverUnavailableError
from tests.support.driver_jobs import counts, ids, job, put, take, take_one


@pytest.fixture
def lose(driver, monkeypatch):
    """Let the next script be carried out, and its answer be lost."""
    whole = scripts._ask

    def lossy(*arguments):
        monkeypatch.setattr(scripts, "_ask", whole)
        whole(*arguments)
        raise redis.TimeoutError("Timeout reading from socket")

    def lose() -> None:
        monkeypatch.setattr(scripts, "_ask", lossy)

    put(driver, "warm", queue="warm")  # Redis knows the scripts
    put(driver, "warm", "warmer", queue="warm")
    take(driver, "warm", limit=3)
    return lose


def test_a_forked_process_has_its_own_request_ids(driver):
    """As under a web server that forks after it has dispatched: each would get the answer to the
    other's put.
    """
    put(driver, "before")
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            put(driver, "child")
            code = 0
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    put(driver, "parent")
    assert ids(take(driver)) == ["before", "child", "parent"]


def test_a_put_that_got_no_answer_is_done_once_however_often_it_is_tried(driver, lose):
    for _ in range(3):
        lose()
        with pytest.raises(DriverUnavailableError):
            put(driver, "a", "b")
    put(driver, "a", "b")
    assert counts(driver) == (2, 0, 0)


def test_a_repeated_put_gets_the_answer_of_the_first_try(driver, lose):
    lose()
    with pytest.raises(DriverUnavailableError):
        driver.put([job(id="a", unique_key="key")])
    assert [placed.created for placed in driver.put([job(id="a", unique_key="key")])] == [True]


def test_a_repeated_put_is_not_done_again_when_its_job_has_run_meanwhile(driver, other, lose):
    lose()
    with pytest.raises(DriverUnavailableError):
        put(driver, "a")
    assert other.ack([take_one(other).lease]) == 1
    put(driver, "a")
    assert counts(driver) == (0, 0, 0)


def test_a_later_put_is_a_put_of_its_own(driver, lose):
    lose()
    with pytest.raises(DriverUnavailableError):
        put(driver, "a")
    put(driver, "b")
    put(driver, "b")
    put(driver, "a", queue="high")
    assert (counts(driver), counts(driver, "high")) == ((3, 0, 0), (1, 0, 0))


def test_jobs_of_a_lost_reservation_are_released_and_no_attempt_is_counted(driver, lose):
    put(driver, "a", "b", "c")
    lose()
    with pytest.raises(DriverUnavailableError):
        take(driver, limit=2)
    assert counts(driver) == (1, 0, 2)
    taken = take(driver)
    assert (ids(taken), [(one.attempts, one.rescues) for one in taken]) == (
        ["a", "b", "c"],
        [(1, 0)] * 3,
    )


def test_a_reservation_that_is_carried_out_late_holds_nothing(driver, other, lose, monkeypatch):
    # Given a reservation that is lost before the server has seen it
    put(driver, "a")
    monkeypatch.setattr(idempotency, "SECOND_RELEASE_SECONDS", 0.0)
    driver._lost_reservations.add("late.", ["default"])
    assert ids(take(other, "none")) == ids(take(driver, "none")) == []

    # When it is carried out after its first search
    driver._run(
        "reserve", 10, 30, "me", "late.", 0, 1, "default", *driver.keys.kombu_with_count("default")
    )
    assert counts(driver) == (0, 0, 1)

    # I expect the second to find it, and no third
    assert ids(take(driver)) == ["a"]
    assert driver._lost_reservations._lost == {}


def test_jobs_that_others_hold_are_left_alone(driver, other, lose):
    put(driver, "a", "b")
    held = take(other, limit=1)
    lose()
    with pytest.raises(DriverUnavailableError):
        take(driver)
    assert ids(take(driver)) == ["b"]
    assert other.ack([held[0].lease]) == 1


@pytest.mark.parametrize("options", [{}, {"retry_on_timeout": True}])
def test_the_redis_client_repeats_no_command_by_itself(opened, options):
    pool = opened(**options).pool
    assert pool.get_connection().retry.get_retries() == 0
