"""A pytest plugin for `make test`: a test that fails is run once more, alone, after all the others.

A test that passes then is flaky. It doesn't make the run red, but the last lines before pytest's
closing line name it. The run stays red when a test fails again, when more than MOST_RERUN tests
have failed, and when pytest could not run them all: a worker of xdist crashed, a module could not
be imported.

Load it with `pytest -p tests.support.flaky`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Generator

import pytest
from _pytest.terminal import TerminalReporter

MOST_RERUN = 10


class FlakyTests:
    """The run, and whether a worker of xdist has crashed in it."""

    def __init__(self) -> None:
        self.crashed = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, error: object) -> None:
        """Called by xdist when a worker ends, with an error if it crashed."""
        self.crashed |= error is not None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.session = session

    # The outermost wrapper: what it writes comes after all other summaries.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: TerminalReporter, exitstatus: int
    ) -> Generator[None]:
        yield
        if exitstatus == pytest.ExitCode.TESTS_FAILED and not self.session.shouldfail:
            self._judge(terminalreporter)

    def _judge(self, reporter: TerminalReporter) -> None:
        reports = [*reporter.getreports("failed"), *reporter.getreports("error")]
        names = list(dict.fromkeys(report.nodeid for report in reports))
        if self.crashed or not all(isinstance(report, pytest.TestReport) for report in reports):
            reporter.write_line("Nothing is run again: not every test could be run.", red=True)
        elif len(names) > MOST_RERUN:
            reporter.write_line(
                f"Nothing is run again: expected at most {MOST_RERUN} tests to fail, "
                f"got {len(names)}.",
                red=True,
            )
        else:
            flaky = [name for name in names if passes_alone(name, reporter)]
            call_flaky(flaky, reports, reporter)
            if flaky == names:
                self.session.exitstatus = pytest.ExitCode.OK


def passes_alone(name: str, reporter: TerminalReporter) -> bool:
    """Run a test in a pytest of its own, and show what that prints."""
    reporter.write_sep("-", f"once more, alone: {name}")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", name]
    ended = subprocess.run(
        command,
        cwd=reporter.config.rootpath,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    # Indented, so that nothing takes the closing line of this pytest for that of the run.
    reporter.write_line(textwrap.indent(ended.stdout, "    "))
    return ended.returncode == 0 and re.search(r"\b1 passed\b", ended.stdout) is not None


def call_flaky(
    names: list[str], reports: list[pytest.TestReport], reporter: TerminalReporter
) -> None:
    """Name the flaky tests, and count them as such in the closing line."""
    if not names:
        return
    for outcome in ("failed", "error"):
        left = [report for report in reporter.stats.pop(outcome, []) if report.nodeid not in names]
        if left:
            reporter.stats[outcome] = left
    reporter._add_stats("flaky", [first_of(reports, name) for name in names])
    reporter.write_sep("!", f"{len(names)} FLAKY: failed, and passed when run again", yellow=True)
    for name in names:
        reporter.write_line(f"FLAKY {name}", yellow=True)


def first_of(reports: list[pytest.TestReport], name: str) -> pytest.TestReport:
    return next(report for report in reports if report.nodeid == name)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(FlakyTests(), "relevo-flaky-tests")
