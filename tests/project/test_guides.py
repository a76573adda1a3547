"""The guides for newcomers and for production: every name on them exists, every default
is right.
"""

from __future__ import annotations

import ast
import json
import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from celery.app.defaults import NAMESPACES, flatten
from celery.bin.celery import celery as celery_command

import relevo
import tasks
from app.settings import NAMES as OF_THE_APPLICATION
from relevo import config, testing
from relevo.app import App, preset
from relevo.batches.batch import Batch, Batches, NewBatch
from relevo.batches.chain import NewChain
from relevo.dispatch.builder import Dispatch
from relevo.execution.failed_hook import FailedHook
from relevo.job.options import NAMES as OPTIONS
from relevo.task import Task
from relevo.testing.attempt import Attempt
from relevo.testing.fake_queue import Fake
from tests.support.commands import our_commands

ROOT = Path(__file__).resolve().parents[2]
PLACES = (
    Task,
    Dispatch,
    NewBatch,
    NewChain,
    Batch,
    Batches,
    App,
    Fake,
    Attempt,
    testing,
    FailedHook,
)
SETTING = r"(?:QUEUE|REDIS|RELEVO|FLOWER|MAIL|FILES|ALERT|DATABASE|APP|SQS)_[A-Z_]+"


def page(name: str) -> str:
    return (ROOT / f"docs/{name}.md").read_text()


def cells(name: str) -> list[list[str]]:
    """The rows of every table of a page, without their heads."""
    rows = [
        line.strip("|").split(" | ") for line in page(name).splitlines() if line.startswith("|")
    ]
    return [[cell.strip() for cell in row] for row in rows if not set(row[0]) <= {"-", "|"}]


def ours(name: str) -> str:
    """The right-hand column: our names."""
    return "\n".join(row[-1] for row in cells(name))


def plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", ["from-laravel", "from-celery"])
def test_every_setting_named_on_the_pages_exists(name):
    known = {*config.NAMES, *OF_THE_APPLICATION, "CELERY_BROKER_URL"}
    assert set(re.findall(SETTING, ours(name))) - known == set()


def test_every_name_of_our_api_on_the_page_for_laravel_exists():
    said = ours("from-laravel")
    named = {
        word
        for form in (r"\b([a-z]\w+)\(", r"`(assert_\w+)`", r"\b(?:self|task|batch)\.(\w+)")
        for word in re.findall(form, said)
    }
    missing = {word for word in named if not any(hasattr(place, word) for place in PLACES)}
    assert {word for word in missing if not hasattr(relevo, word)} == set()


def test_every_task_option_named_on_the_pages_exists():
    for name in ("from-laravel", "from-celery"):
        said = set(re.findall(r"\b([a-z_]+)=", ours(name))) - {
            "batch",
            "session",
            "limits",
            "name",
            "terminate",
        }
        assert said - OPTIONS == set(), name
    properties = page("from-laravel").partition("## A job's properties")[2].partition("\n## ")[0]
    rows = [
        line.split(" | ")[-1]
        for line in properties.splitlines()
        if line.startswith("| `$") or "Unique" in line
    ]
    assert {word for row in rows for word in re.findall(r"`([a-z_]+)[`=]", row)} <= OPTIONS


def test_every_shortened_command_named_on_the_pages_exists():
    verbs = {
        f"{name} {verb}"
        for name, command in our_commands().items()
        for verb in getattr(command, "commands", ())
    }
    shown = set(
        re.findall(
            r"`((?:failed|queues|batches|jobs|pauses|schedule) [a-z]+)", page("from-laravel")
        )
    )
    assert shown <= verbs


@pytest.mark.parametrize("name", ["from-laravel", "from-celery", "deploy"])
def test_every_option_of_celery_s_worker_that_is_named_exists(name):
    known = {option for each in celery_command.commands["worker"].params for option in each.opts}
    shown = {
        word
        for line in re.findall(r"celery -A tasks worker ([^`\n|]*)", page(name))
        for word in line.split()
        if word.startswith("-")
    }
    shown |= set(re.findall(r"`(--max-[a-z]+-per-child)", page(name)))
    assert {word.partition("=")[0] for word in shown} <= known


def test_the_defaults_that_differ_are_celery_s_and_ours():
    celerys, own = dict(flatten(NAMESPACES)), preset(tasks.app.settings)
    told = {}
    for names, theirs, here, _why in (
        row for row in cells("from-celery") if len(row) == 4 and row[0].startswith("`")
    ):
        for name in re.findall(r"`(\w+)`", names):
            told[name] = here
            assert plain(own.get(name, celerys[name].default)) == ast.literal_eval(
                here.strip("`")
            ), name
            if theirs[0] == "`" or theirs[0].isdigit():
                assert plain(celerys[name].default) == ast.literal_eval(
                    theirs.partition(" (")[0].strip("`")
                ), name
    differing = {
        name
        for name, value in own.items()
        if name in celerys and plain(celerys[name].default) != value
    }
    # Where the broker and results are is said by settings, and the rest are timeouts of Redis's
    # results.
    by_settings = (
        "redis_",
        "result_backend",
        "broker_url",
        "broker_transport",
        "database_",
        "task_default_queue",
        "beat_",
    )
    assert {name for name in differing if not name.startswith(by_settings)} <= set(told)


def test_the_page_for_production_serves_the_queues_that_supervisor_serves():
    of_supervisor = {
        match
        for path in (ROOT / "supervisor").glob("*.conf")
        for match in re.findall(r"-Q (\S+)", path.read_text())
    }
    assert set(re.findall(r'-Q"?,? "?([a-z,]+)', page("deploy"))) == of_supervisor
    waits = {
        seconds
        for path in (ROOT / "supervisor").glob("worker*.conf")
        for seconds in re.findall(r"stopwaitsecs=(\d+)", path.read_text())
    }
    assert waits <= set(re.findall(r"TimeoutStopSec=(\d+)", page("deploy")))


def test_systemd_s_unit_the_container_and_the_procfile_run_the_worker_that_supervisor_runs():
    unit, worker = ConfigParser(interpolation=None), ConfigParser(interpolation=None)
    unit.read_string(re.search(r"```ini\n(.*?)```", page("deploy"), re.DOTALL)[1])
    worker.read(ROOT / "supervisor/worker.conf")
    service, program = unit["Service"], worker["program:worker"]
    options = re.search(r"worker (-Q \S+)", program["command"])[1]
    assert f" -A tasks worker {options} " in service["ExecStart"]
    assert (service["TimeoutStopSec"], service["KillMode"]) == (program["stopwaitsecs"], "mixed")
    assert f"nice -n {service['Nice']} " in program["command"]
    assert options in next(
        line for line in (ROOT / "Procfile").read_text().splitlines() if line.startswith("worker:")
    )
    assert (
        f"CMD {json.dumps(['celery', '-A', 'tasks', 'worker', *options.split()])[:-1]}, "
        in page("deploy")
    )
