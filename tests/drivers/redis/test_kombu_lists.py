"""Plain Celery on the same Redis: its clients' messages are found, its dead workers'
jobs adopted.
"""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime, timedelta

import celery
import pytest
from kombu import Connection, Exchange, Queue

from relevo.drivers import message_codec
from relevo.drivers.contract import State
from tests.support.driver_jobs import counts, take
from tests.support.waits import eventually
from tests.support.workers import Site

STOCK = "kombu.transport.redis:Transport"
PREFIXES = ["", "shop:"]


@pytest.fixture(params=PREFIXES)
def prefix(request):
    return request.param


@pytest.fixture
def driver(opened, prefix):
    return opened(global_keyprefix=prefix)


@pytest.fixture
def client(server, prefix):
    """An app that knows nothing of us."""
    options = {"global_keyprefix": prefix}
    app = celery.Celery(
        "plain",
        broker=server.url,
        broker_transport=STOCK,
        set_as_current=False,
        broker_transport_options=options,
    )
    yield app
    app.close()


def found(driver, *queues, number=1):
    """The jobs that an idle worker gets within a few looks."""
    jobs = []

    def look():
        jobs.extend(take(driver, *queues))
        return len(jobs) >= number

    eventually(look)
    return jobs


def task_of(job):
    return message_codec.from_job(job)["headers"]["task"]


def test_a_message_of_a_plain_client_is_found_and_the_next_look_follows_at_once(client, driver):
    client.send_task("one", (1, "ä"), queue="default")
    assert take(driver) == []
    assert driver.watch(["default"]).interval < 0.1
    [job] = take(driver)
    message = message_codec.from_job(job)
    assert (job.priority, message["headers"]["task"]) == (0, "one")
    assert message["properties"]["body_encoding"] == "base64"


def test_messages_of_plain_clients_run_by_priority_and_then_by_age(client, driver):
    for number, priority in enumerate([9, 0, 3, 0, 5]):
        client.send_task(f"{number}", queue="default", priority=priority)
    assert take(driver) == []
    assert [(task_of(job), job.priority) for job in take(driver)] == [
        ("1", 0),
        ("3", 0),
        ("2", 3),
        ("4", 5),
        ("0", 9),
    ]


def test_an_eta_becomes_a_delay(client, driver):
    client.send_task("later", queue="default", countdown=500)
    client.send_task("past", queue="default", eta=datetime.now(UTC) - timedelta(hours=1))
    assert [task_of(job) for job in found(driver)] == ["past"]
    [view] = driver.peek("default", State.DELAYED)
    assert 400 < view.available_at - driver.now() < 501


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b"7",
        b"\xff\xfe\x00",
        b'{"headers": 7}',
        b"\x00",
        b'{"headers": {"eta": "x"}}',
        b"[" * 50_000,
        b'{"headers": {"id": "' + b"x" * 999,
    ],
)
def test_an_invalid_message_is_taken_as_it_is_and_left_to_the_worker(
    server, client, driver, prefix, rubbish
):
    server.client.lpush(f"{prefix}default", rubbish)
    client.send_task("good", queue="default")
    jobs = found(driver, number=2)
    assert [job.payload for job in jobs[:1]] == [rubbish.decode("utf-8", "replace")]
    with pytest.raises((ValueError, TypeError, AttributeError, RecursionError)):
        message_codec.from_job(jobs[0])
    assert task_of(jobs[1]) == "good"


def test_a_long_list_is_moved_in_portions_and_no_message_twice(server, client, opened, prefix):
    payloads = [
        json.dumps({"body": f"{number}", "properties": {}, "headers": {"id": f"{number}"}})
        for number in range(1000)
    ]
    server.client.lpush(f"{prefix}default", *payloads)
    drivers = [opened(global_keyprefix=prefix) for _ in range(4)]
    taken = [[] for _ in drivers]

    def work(driver, mine):
        eventually(lambda: mine.extend(job.id for job in take(driver)) or not counts(driver)[0])

    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(drivers, taken, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(id_) for mine in taken for id_ in mine) == list(range(1000))


def test_nothing_is_lost_when_the_adopting_worker_dies_between_reading_and_moving(
    server, client, driver, prefix
):
    # Given a worker that reads and dies
    client.send_task("one", queue="default")
    run = driver._scripts.run
    driver._scripts.run = lambda name, *arguments: (
        sys.exit() if name == "adopt" else run(name, *arguments)
    )
    with pytest.raises(SystemExit):
        driver._kombu_lists.adopt(["default"])
    driver._scripts.run = run

    # I expect another to find it, once
    assert server.client.llen(f"{prefix}default") == 1
    assert [task_of(job) for job in found(driver)] == ["one"]
    assert take(driver) == []


def test_sizes_and_clear_include_messages_of_plain_clients(client, driver):
    for priority in (0, 9):
        client.send_task("one", queue="default", priority=priority)
    assert counts(driver) == (2, 0, 0)
    assert driver.clear("default") == 2
    assert counts(driver) == (0, 0, 0)


def test_a_worker_runs_them_and_keeps_invalid_ones_as_failed(server, client, tmp_path, prefix):
    site = Site(server.url, tmp_path, options={"global_keyprefix": prefix})
    with site.worker("-c", "1") as worker:
        client.send_task("work", (1,), queue=site.queue, priority=9)
        client.send_task("work", (2,), queue=site.queue, countdown=0.5)
        server.client.lpush(f"{prefix}{site.queue}", b"\xff not a message")
        client.send_task("work", (3,), queue=site.queue)
        site.until(lambda: site.ended == {1, 2, 3})
        site.until(site.empty)
        [unreadable] = site.until(site.failed)
        assert "not a message" in unreadable.payload
        assert worker.stop() == 0
    assert site.twice() == set()


# --- what stock workers held ----------------------------------------------------------------------
def stock_worker(server, prefix, queue, number, **options):
    """Take messages as a stock worker does, and die with them: returns how many."""
    options = {"global_keyprefix": prefix, **options}
    connection = Connection(server.url, transport=STOCK, transport_options=options)
    channel = connection.channel()
    bound = queue(channel)
    bound.declare()
    taken = 0
    for _ in range(number):
        taken += bound.get(no_ack=False) is not None
    channel.qos._delivered.clear()  # dead: it puts nothing back
    channel.qos.restore_at_shutdown = False
    connection.close()
    return taken


def test_what_a_killed_stock_worker_held_is_adopted_once(server, client, driver, prefix):
    for number in range(3):
        client.send_task(f"{number}", queue="default", priority=number * 3)
    client.send_task("late", queue="default", countdown=500)
    assert stock_worker(server, prefix, Queue("default"), 4) == 4
    assert counts(driver) == (0, 0, 0)
    assert driver.adopt_unacked() == 4
    assert driver.adopt_unacked() == 0
    assert server.client.exists(f"{prefix}unacked", f"{prefix}unacked_index") == 0
    assert counts(driver) == (3, 1, 0)
    jobs = take(driver)
    assert [(task_of(job), job.attempts) for job in jobs] == [("0", 2), ("1", 2), ("2", 2)]
    assert message_codec.from_job(jobs[0])["properties"]["delivery_info"]["redelivered"] is True


def test_adoption_finds_the_queue_of_an_exchange(server, client, driver, prefix):
    queue = Queue("orders", Exchange("shop", type="topic"), routing_key="order.#")
    client.conf.task_queues = [queue]
    client.send_task("one", exchange="shop", routing_key="order.paid", declare=[queue])
    assert stock_worker(server, prefix, queue, 1) == 1
    assert driver.adopt_unacked() == 1
    assert [task_of(job) for job in take(driver, "orders")] == ["one"]


def test_keys_with_other_names_are_adopted(server, client, opened, prefix):
    names = {"unacked_key": "held", "unacked_index_key": "held_index"}
    client.send_task("one", queue="default")
    assert stock_worker(server, prefix, Queue("default"), 1, **names) == 1
    assert opened(global_keyprefix=prefix).adopt_unacked() == 0
    assert opened(global_keyprefix=prefix, **names).adopt_unacked() == 1


def test_an_entry_that_kombu_did_not_write_stays_and_the_others_are_adopted(
    server, client, driver, prefix
):
    client.send_task("one", queue="default")
    stock_worker(server, prefix, Queue("default"), 1)
    for tag, held in {
        "a": "{",
        "b": "[1, 2]",
        "c": '[{"headers": {}}, "", ""]',
        "d": b"\xff",
    }.items():
        server.client.hset(f"{prefix}unacked", tag, held)
    assert driver.adopt_unacked() == 1
    assert server.client.hlen(f"{prefix}unacked") == 4


def test_two_processes_adopt_hundreds_of_messages_once(server, driver, opened, prefix):
    entries = {
        f"{number}": json.dumps(
            [{"body": "x" * 100, "properties": {}, "headers": {"id": f"{number}"}}, "", "q"]
        )
        for number in range(700)
    }
    server.client.hset(f"{prefix}unacked", mapping=entries)
    drivers, adopted = [driver, opened(global_keyprefix=prefix)], []
    threads = [
        threading.Thread(target=lambda one=one: adopted.append(one.adopt_unacked()))
        for one in drivers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(adopted) == 700
    assert sorted(int(view.id) for view in driver.peek("q", State.PENDING, 1000)) == list(
        range(700)
    )
