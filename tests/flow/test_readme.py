"""The first example of the README works: a file in an empty folder, then a job."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.support.celery_project import stop
from tests.support.programs import run, start
from tests.support.waits import eventually

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
OURS = re.compile(r"(?:QUEUE|REDIS|RELEVO|DATABASE|FILES|MAIL|ALERT|FLOWER|APP)_")


def example() -> tuple[str, str, str]:
    """The file's text, the worker's arguments and the Python text that dispatches."""
    code, commands = re.search(
        r"```python\n(# shop\.py\n.*?)```\n\n```sh\n(.*?)```", README, re.DOTALL
    ).groups()
    worker = re.search(r"^celery (.*) &$", commands, re.MULTILINE)[1]
    dispatch = re.search(r"^python -c '(.*)'$", commands, re.MULTILINE)[1]
    return code, worker, dispatch


def test_the_ten_lines_run_in_an_empty_folder(tmp_path):
    code, worker, dispatch = example()
    tmp_path.joinpath("shop.py").write_text(code)
    environ = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        arguments = ["-m", "celery", *worker.split()]
        process = start(*arguments, environ=environ, output=output, folder=tmp_path)
        try:
            ended = run("-c", dispatch, environ=environ, folder=tmp_path)
            assert ended.returncode == 0, ended.stderr
            eventually(lambda: "Hello, Ada" in log.read_text(), log.read_text)
        finally:
            stop(process)
