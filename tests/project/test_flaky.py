"""A test that fails is run once more, alone, at the end. Every other bad end makes a run red."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.support.flaky import MOST_RERUN
from tests.support.programs import ROOT

PASSES = "def test_that_passes(): ...\n"
FLAKY = """
from pathlib import Path

def test_that_is_flaky():
    before = Path(__file__).with_suffix(".ran")
    again = before.exists()
    before.touch()
    assert again
"""
FLAKY_FIXTURE = """
import pytest
from pathlib import Path

@pytest.fixture
def flaky():
    before = Path(__file__).with_suffix(".ran")
    again = before.exists()
    before.touch()
    yield
    assert again

def test_with_a_flaky_end(flaky): ...
"""
FAILS = "def test_that_fails(): assert False\n"
SKIPS_AGAIN = (
    FLAKY.replace("assert again", "assert again or pytest.fail()")
    .replace("    before.touch()", "    if again: pytest.skip('no server')\n    before.touch()")
    .replace("from pathlib", "import pytest\nfrom pathlib")
)
CRASHES = """
import os
from pathlib import Path

def test_that_crashes_once():
    before = Path(__file__).with_suffix(".ran")
    if not before.exists():
        before.touch()
        os._exit(1)
"""
CANNOT_BE_IMPORTED = "import nothing_of_this_name\n"
SERVERS = ("redis-server", "postgres", "mariadbd", "chromium")


@dataclass
class Run:
    code: int
    lines: list[str]

    @property
    def closing(self) -> str:
        return self.lines[-1].strip("= ").partition(" in ")[0]


@pytest.fixture
def ci(tmp_path):
    """Run `.ci/run` in a project of these test modules, in as many processes as are given."""
    project, programs = tmp_path / "project", tmp_path / "programs"
    (project / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", project / ".ci")
    programs.mkdir()
    for name in SERVERS:  # it would install what is missing
        (programs / name).touch()
        (programs / name).chmod(stat.S_IRWXU)

    def ci(*modules: str, processes: int = 2) -> Run:
        for number, module in enumerate(modules):
            (project / f"test_{number}.py").write_text(module)
        [command] = (
            line for line in (ROOT / "Makefile").read_text().splitlines() if "$(PARALLEL)" in line
        )
        command = command.strip().replace("$(BIN)/python", sys.executable)
        (project / "Makefile").write_text(f"PARALLEL = {processes}\ncheck:\ntest:\n\t{command}\n")
        (project / "pytest.ini").touch()
        environ = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_PLUGINS": "xdist.plugin",
        }
        ended = subprocess.run(
            [".ci/run"], cwd=project, env=environ, capture_output=True, text=True, check=False
        )
        return Run(ended.returncode, ended.stdout.splitlines())

    return ci


@pytest.mark.parametrize("processes", [0, 2])
def test_a_run_whose_failed_tests_pass_alone_is_green_and_names_them_last(ci, processes):
    run = ci(PASSES, FLAKY, FLAKY_FIXTURE, processes=processes)
    assert run.code == 0, run
    assert run.closing == "2 passed, 2 flaky"
    heading, *names, _closing, _closing_again = run.lines[-5:]
    assert "2 FLAKY: failed, and passed when run again" in heading
    assert sorted(names) == [
        "FLAKY test_1.py::test_that_is_flaky",
        "FLAKY test_2.py::test_with_a_flaky_end",
    ]
    assert "E       assert False" in run.lines  # how it failed the first time


def test_a_run_without_failed_tests_says_nothing_of_flaky_ones(ci):
    run = ci(PASSES)
    assert (run.code, run.closing) == (0, "1 passed")
    assert not [line for line in run.lines if "flaky" in line.lower()]


def test_a_test_that_fails_again_makes_the_run_red_and_the_flaky_ones_are_still_named(ci):
    run = ci(PASSES, FLAKY, FAILS)
    assert (run.code, run.closing) == (2, "1 failed, 1 passed, 1 flaky")
    assert "FLAKY test_1.py::test_that_is_flaky" in run.lines


def test_a_test_that_is_skipped_when_it_is_run_again_has_not_passed(ci):
    run = ci(PASSES, SKIPS_AGAIN)
    assert (run.code, run.closing) == (2, "1 failed, 1 passed")


@pytest.mark.parametrize(
    ("modules", "closing"),
    [
        ([FAILS.replace("()", f"_{number}()") for number in range(MOST_RERUN + 1)], "11 failed"),
        ([PASSES, CRASHES], "1 failed, 2 passed"),
        ([PASSES, CANNOT_BE_IMPORTED], "1 passed, 1 error"),
    ],
    ids=["many failures", "a worker that crashed", "a module that can't be imported"],
)
def test_nothing_is_run_again_after(ci, modules, closing):
    run = ci(*modules)
    assert (run.code, run.closing) == (2, closing)
    assert [line for line in run.lines if line.startswith("Nothing is run again")]


def test_a_pytest_that_crashes_makes_the_run_red(ci):
    run = ci(PASSES, CRASHES, processes=0)
    assert (run.code, run.lines[-1]) == (2, "no tests ran")


def test_a_run_without_tests_is_red(ci):
    run = ci("")
    assert (run.code, run.closing) == (2, "no tests ran")
