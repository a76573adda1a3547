"""A second worker of one name on one host is told of."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from celery.signals import celeryd_after_setup

from relevo import config
from relevo.app import create_app
from relevo.worker import node_name

NAME = "celery@host/1"
HOLD = """
import sys
from pathlib import Path
from relevo.worker import node_name
held = node_name.claim(Path(sys.argv[1]), sys.argv[2])
print(held is not None, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """A process that has a name; it ends when the test says so."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), NAME],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_a_name_that_another_process_has_is_warned_of(other, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert node_name.claim(tmp_path, NAME) is None
    [record] = caplog.records
    assert (
        f"another worker named {NAME!r} runs on this host (process {other.pid})" in record.message
    )
    assert "-n worker-2@%h" in record.message


def test_a_worker_that_starts_claims_its_name(other, tmp_path, caplog):
    settings = config.load({"RELEVO_VAR_DIR": str(tmp_path)}, env_file=None)
    worker = SimpleNamespace(app=create_app("shop", settings), hostname=NAME)
    celeryd_after_setup.send(sender=NAME, instance=worker)
    assert "another worker named" in caplog.text
    other.kill()
    other.wait()
    celeryd_after_setup.send(sender=NAME, instance=worker)
    assert not worker.node_lock.closed
    worker.node_lock.close()


def test_a_name_is_free_when_its_process_was_killed(other, tmp_path, caplog):
    other.kill()
    other.wait()
    with node_name.claim(tmp_path, NAME) as held:
        held.seek(0)
        assert held.read() == f"{os.getpid()}\n"
    assert not caplog.records


def test_other_names_other_folders_and_workers_of_one_process_are_not_warned_of(
    other, tmp_path, caplog
):
    files = [
        node_name.claim(folder, name)
        for folder, name in [
            (tmp_path, "celery@host/2"),
            (tmp_path / "b", NAME),
            (tmp_path / "b", NAME),
        ]
    ]
    assert all(files)
    assert not caplog.records
    for file in files:
        file.close()


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert node_name.claim(tmp_path / "file", NAME) is None
    assert not caplog.records
