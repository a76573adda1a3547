"""The fake disk: its assertions, and its place in the app's settings."""

from __future__ import annotations

import pytest
from celery import Celery

from relevo.testing import fake_disk


@pytest.fixture
def disk(app):
    with fake_disk(app) as disk:
        yield disk


def test_the_assertions_are_silent_when_they_hold(disk):
    disk.assert_empty()
    disk.put("a/cat.jpg", b"miaow")
    disk.assert_exists("a/cat.jpg")
    disk.assert_exists("a/cat.jpg", b"miaow")
    disk.assert_missing("a/dog.jpg")
    disk.assert_count(1)
    disk.assert_count(1, "a")
    disk.assert_empty("b")
    assert disk.paths() == ["a/cat.jpg"]


FAILS = [
    (lambda disk: disk.assert_exists("dog.jpg"), "expected 'dog.jpg' to exist"),
    (lambda disk: disk.assert_exists("a/cat.jpg", b"woof"), "to contain b'woof', got b'miaow'"),
    (lambda disk: disk.assert_missing("a/cat.jpg"), "expected 'a/cat.jpg' not to exist"),
    (lambda disk: disk.assert_count(2), "expected 2 files, got 1"),
    (lambda disk: disk.assert_count(2, "a"), "expected 2 files in 'a', got 1"),
    (lambda disk: disk.assert_empty(), "expected no file"),
    (lambda disk: disk.assert_empty("a"), "expected no file in 'a'"),
]


@pytest.mark.parametrize(("fails", "message"), FAILS)
def test_a_failed_assertion_lists_the_files(disk, fails, message):
    disk.put("a/cat.jpg", b"miaow")
    with pytest.raises(AssertionError) as said:
        fails(disk)
    assert message in str(said.value)
    assert str(said.value).endswith("on the disk:\n  a/cat.jpg")


def test_failed_assertions_name_an_empty_disk_and_cut_long_contents(disk):
    with pytest.raises(AssertionError, match="to exist\nthe disk is empty"):
        disk.assert_exists("cat.jpg")
    disk.put("cat.jpg", b"x" * 100)
    with pytest.raises(AssertionError, match=r"… \(100 bytes\)"):
        disk.assert_exists("cat.jpg", b"")


def test_the_app_gets_its_own_disk_back_also_after_an_exception(app):
    before = app.settings

    def use():
        with fake_disk(app) as disk:
            assert app.settings.storage == disk.root
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert app.settings is before


def test_an_app_without_settings_is_not_changed():
    with fake_disk(Celery("theirs", set_as_current=False)) as disk:
        disk.put("cat.jpg", b"miaow")
        disk.assert_count(1)
    assert not disk.root.exists()
