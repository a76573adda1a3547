"""The request of a killed attempt in a worker's main process, when the broker or the stop
interferes.
"""

import os
import signal
from types import SimpleNamespace

import pytest
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from celery.worker import state

from relevo.execution import stop_flag
from relevo.transport.context import current
from tests.support.delivery import Delivery


@pytest.fixture
def process(app):
    app.conf.task_ignore_result = True

    @app.task(name="process", tries=2, backoff=[7])
    def process(): ...

    return process


@pytest.mark.parametrize("error", [TimeLimitExceeded(5), WorkerLostError("killed"), SystemExit(3)])
def test_a_killed_attempt_sends_the_job_back_and_acks_the_delivery(app, process, sent, error):
    delivery = Delivery(app, process)
    delivery.ends_in(error)
    [message] = sent
    assert (message.task_id, message.retries, message.countdown) == ("1", 1, 7)
    assert message.headers["relevo"]["exceptions"] == 1
    assert delivery.answers == ["ack"]


def test_the_last_attempt_is_celerys_failure_where_there_is_no_hook(app, process, sent):
    delivery = Delivery(app, process, retries=1)
    delivery.ends_in(TimeLimitExceeded(5))
    assert delivery.answers == ["ack"]
    assert not sent


def test_with_a_hook_the_job_goes_back_for_it_with_its_count_and_its_error(app, process, sent):
    process.failed(lambda *_: None)
    delivery = Delivery(app, process, retries=1, exceptions=1)
    delivery.ends_in(TimeLimitExceeded(5))
    [message] = sent
    assert (message.retries, message.headers["relevo"]["exceptions"]) == (1, 2)
    assert message.headers["relevo"]["verdict"]["exc_type"] == "TimeLimitExceeded"
    assert delivery.answers == ["ack"]


def test_a_job_killed_in_its_hook_does_not_come_back(app, process, sent):
    process.failed(lambda *_: None)
    verdict = {
        "exc_type": "TimeLimitExceeded",
        "exc_message": [5],
        "exc_module": "billiard.exceptions",
    }
    Delivery(app, process, verdict=verdict).ends_in(WorkerLostError("killed"))
    assert not sent


def test_a_broker_that_will_not_take_it_back_keeps_the_delivery(app, process, monkeypatch):
    def refuse(*_args, **_options):
        raise ConnectionError("gone")

    monkeypatch.setattr(app, "send_task", refuse)
    delivery = Delivery(app, process)
    delivery.ends_in(TimeLimitExceeded(5))
    assert delivery.answers == ["back"]


def test_a_cold_shutdown_records_no_outcome(app, process, sent, monkeypatch):
    monkeypatch.setattr(state, "should_terminate", 1)
    delivery = Delivery(app, process, retries=1)
    delivery.ends_in(WorkerLostError("killed"))
    assert delivery.answers == ["back"]
    assert not sent


def test_a_revoked_job_stays_revoked(app, process, sent):
    delivery = Delivery(app, process)
    delivery.request._already_revoked = True
    delivery.ends_in(SystemExit(1))
    assert not sent


def test_the_child_is_ended_before_the_job_can_start_again(app, process, sent, monkeypatch):
    order = []
    monkeypatch.setattr(os, "kill", lambda pid, number: order.append((pid, number, len(sent))))
    delivery = Delivery(app, process)
    delivery.request.worker_pid = 4_194_305  # beyond the largest pid there can be
    delivery.ends_in(TimeLimitExceeded(5))
    assert order == [(4_194_305, signal.SIGKILL, 0)]


def test_a_pool_without_children_is_not_killed(app, process, sent, monkeypatch):
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("killed itself"))
    delivery = Delivery(app, process)
    delivery.request.worker_pid = os.getpid()
    delivery.ends_in(TimeLimitExceeded(5))
    assert len(sent) == 1


def test_a_plain_task_is_left_to_celery(app, sent):
    @app.task(name="plain")
    def plain(): ...

    plain.app.tasks["plain"].acks_late = True
    delivery = Delivery(app, plain)
    delivery.ends_in(WorkerLostError("killed"))
    assert delivery.answers == ["ack"]
    assert not sent


def test_a_job_that_starts_during_a_cold_stop_is_killed_and_released(app, process, monkeypatch):
    """A child reports that it took a job after all running jobs were killed."""
    killed = []
    pool = SimpleNamespace(terminate_job=lambda pid, signum: killed.append((pid, signum)))
    monkeypatch.setattr(current(), "pool", pool)
    delivery = Delivery(app, process)
    delivery.request.on_accepted(4711, 0.0)
    assert killed == []
    monkeypatch.setattr(current(), "stop_byte", [stop_flag.COLD])
    delivery.request.on_accepted(4711, 0.0)
    assert killed == [(4711, signal.SIGTERM)]
    monkeypatch.setattr(state, "should_terminate", True)
    delivery.ends_in(WorkerLostError())
    assert delivery.answers == ["back"]
