"""The pytest plugin, and the examples of docs/testing.md, run as a file of tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from relevo.testing import Attempt, Fake, FakeAlerts, FakeDisk, FakeMail
from tests.support import programs
from tests.support.programs import ROOT

PAGE = (ROOT / "docs/testing.md").read_text()
EXAMPLES = "\n\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def run(arguments: list[str], folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return programs.run(*arguments, environ=ENVIRON | environ, folder=folder, modules=("pytest",))


def test_every_example_of_the_page_holds(tmp_path):
    (tmp_path / "test_page.py").write_text(EXAMPLES)
    ran = run(["-m", "pytest", "-q", "-p", "relevo.testing.plugin", "test_page.py"], tmp_path)
    assert ran.returncode == 0, ran.stdout
    assert f"{len(re.findall('^def test_', EXAMPLES, re.MULTILINE))} passed" in ran.stdout


def test_a_fake_of_all_tasks_makes_neither_a_file_nor_a_table(tmp_path):
    (tmp_path / "test_page.py").write_text(EXAMPLES)
    options = [
        "-q",
        "-p",
        "relevo.testing.plugin",
        "-p",
        "no:cacheprovider",
        "-k",
        "not some and not but",
    ]
    ran = run(["-m", "pytest", *options, "test_page.py"], tmp_path, PYTHONDONTWRITEBYTECODE="1")
    assert ran.returncode == 0, ran.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["test_page.py"]


@pytest.mark.parametrize("kind", [Fake, Attempt, FakeAlerts, FakeDisk, FakeMail])
def test_every_public_method_is_on_the_page(kind):
    words = {
        name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))
    }
    inherited = {
        "keep",
        "takes",
        "expect",
        "name_of",
        "groups",
        "exists",
        "delete",
        "size",
        "path",
        "open",
        "put",
        "staged",
        "link",
        "keep_batch",
        "takes_batch",
        "keep_chain",
        "after_last_attempt",
        "take",
    }
    assert {word for word in words - inherited if f".{word}(" not in PAGE} == set()


def test_the_entry_point_of_pytest_is_the_plugin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"relevo": "relevo.testing.plugin"}


def test_the_plugin_loads_no_celery_into_every_pytest(tmp_path):
    asked = (
        "import sys, relevo.testing.plugin\n"
        "print([name for name in ('celery', 'redis') if name in sys.modules])"
    )
    command = [sys.executable, "-c", asked]
    ran = subprocess.run(
        command, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"


def test_a_failed_assertion_shows_the_line_of_the_test_and_the_list(tmp_path):
    (tmp_path / "test_one.py").write_text(
        EXAMPLES.partition("def test_by_the_fixture")[0]
        + "def test_it(fake_queue):\n    upload(7)\n"
        "    fake_queue.assert_dispatched(process, args=(8,))\n"
    )
    ran = run(["-m", "pytest", "-q", "-p", "relevo.testing.plugin", "test_one.py"], tmp_path)
    assert re.search(
        r"^> +fake_queue\.assert_dispatched\(process, args=\(8,\)\)$", ran.stdout, re.MULTILINE
    )
    assert "1. images.process(7) on 'high', tags ['file:7']" in ran.stdout
    assert "relevo/testing" not in ran.stdout


def test_a_project_names_its_own_app(tmp_path):
    (tmp_path / "test_one.py").write_text(
        "import pytest\nfrom relevo import create_app\n"
        "mine = create_app('mine')\nlater = create_app('later')\n"
        "@mine.task(name='t', shared=False)\ndef t(): ...\n"
        "@pytest.fixture\ndef relevo_app():\n    return mine\n"
        "def test_it(fake_queue):\n    t.delay()\n    fake_queue.assert_count(1)\n"
        "    assert fake_queue.app is mine\n"
    )
    ran = run(["-m", "pytest", "-q", "-p", "relevo.testing.plugin", "test_one.py"], tmp_path)
    assert "1 passed" in ran.stdout, ran.stdout
