"""SQLite's subscription waits on a descriptor, and polls for a while after a write to the file."""

import sys

import pytest

from relevo.drivers import driver_for
from relevo.drivers.database import notifier
from relevo.drivers.database.file_watcher import FileWatch
from tests.support.driver_jobs import put, take

linux = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "file-wal"
    file.write_bytes(b"")
    return file


@pytest.fixture
def driver(tmp_path):
    driver = driver_for(f"sqlite:///{tmp_path}/broker.db")
    driver.create_schema()
    yield driver
    driver.close()


@pytest.fixture
def subscription(driver):
    take(driver)  # which says when it is worth looking again
    subscription = driver.watch(["default"])
    poll_until_quiet(subscription)
    yield subscription
    subscription.close()


def poll_until_quiet(subscription):
    """Poll until there is no more news. Returns how many polls that took."""
    times = 1
    while subscription.poll() or subscription.interval < notifier.SQLITE_NET:
        times += 1
        assert times < 100
    return times


@linux
def test_a_write_is_noticed_once(path):
    watch = FileWatch(str(path))
    assert not watch.read()
    path.write_bytes(b"more")
    assert watch.read()
    assert not watch.read()
    watch.close()
    watch.close()
    assert watch.fileno() is None


@linux
def test_a_file_that_is_made_again_is_watched_again(path):
    watch = FileWatch(str(path))
    path.unlink()
    assert watch.read()
    assert watch.fileno() is None
    path.write_bytes(b"")
    watch.open()
    path.write_bytes(b"more")
    assert watch.read()


def test_without_a_file_there_is_nothing_to_watch(path):
    path.unlink()
    watch = FileWatch(str(path))
    assert (watch.fileno(), watch.read()) == (None, False)


@linux
def test_an_idle_subscription_waits_for_the_file_and_looks_by_the_clock_after_a_write(
    driver, subscription
):
    assert subscription.fileno() is not None
    assert subscription.interval == notifier.SQLITE_NET
    put(driver, "a")
    assert subscription.poll()
    assert subscription.fileno() is None
    assert subscription.interval == notifier.SQLITE_FIRST
    assert 2 < poll_until_quiet(subscription) < 10
    assert subscription.fileno() is not None


@linux
def test_a_file_with_constant_writes_is_polled(driver, subscription):
    for number in range(20):
        put(driver, str(number))
        assert subscription.poll()
    assert (subscription.fileno(), subscription.interval) == (None, notifier.SQLITE_INTERVAL)


def test_without_a_watch_the_file_is_polled(driver, subscription, monkeypatch):
    subscription._watch.close()
    monkeypatch.setattr(subscription._watch, "open", lambda: None)
    assert (subscription.fileno(), subscription.interval) == (None, notifier.SQLITE_INTERVAL)
    put(driver, "a")
    assert subscription.poll()


@linux
def test_no_program_is_started_to_watch_a_file(path, monkeypatch):
    """A pool process that is forked meanwhile would keep the pipe that tells of its start open, and
    we would wait.
    """
    monkeypatch.setattr("inotify_simple._libc", None)
    monkeypatch.setattr(
        "subprocess.Popen", lambda *_args, **_options: pytest.fail("a program was started")
    )
    watch = FileWatch(str(path))
    assert watch.fileno() is not None
    watch.close()
