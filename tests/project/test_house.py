"""The house rules that a machine can check: pages tell the truth, and modules stay short."""

from __future__ import annotations

import ast
import os
import pkgutil
import re
import shutil
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import click
import pytest
from celery.bin.celery import celery as celery_command
from packaging.requirements import Requirement
from sqlalchemy import Table

import relevo
import tasks
from relevo import errors
from relevo.drivers.database import tables as broker_tables
from relevo.events import Event
from relevo.limits.database import tables as limit_tables
from relevo.store import tables as store_tables
from tests.support.commands import our_commands

ROOT = Path(__file__).resolve().parents[2]
PAPERS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROJECT_PAPERS = [*sorted(set(ROOT.glob("*.md")) - set(PAPERS)), ROOT / "changelog.d/README.md"]
PACKAGES = ("relevo", "tasks", "app", "web")
MODULES = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.stat().st_size
]

LONGEST_MODULE = 400
LONGEST_LINE = 120

# A letter in brackets, so that this file doesn't find itself.
MACHINE_PATHS = r"/[w]ork/|/[r]oot/|/[h]ome/[a-z]|/[U]sers/[a-zA-Z]"
PRIVATE_HOSTS = r"//[\w.-]+\.(?:internal|intranet|corp|lan|local)\b"
NOT_OURS = {".git", ".venv", ".hypothesis", "var", "build", "dist", "__pycache__"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


papers = pytest.mark.parametrize("paper", PAPERS, ids=name_of)
modules = pytest.mark.parametrize("module", MODULES, ids=name_of)


# --- make -----------------------------------------------------------------------------------------
@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_make_alone_lists_every_target_with_what_it_does():
    printed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z]+)\s+\S", printed, re.MULTILINE)) == make_targets()


def test_every_target_is_phony_so_that_a_file_of_its_name_changes_nothing():
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == make_targets()


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("echo 'Python 3.9.6'; exit 1", "expected Python 3.11 or later, got Python 3.9.6"),
        (
            'case "$2" in *ensurepip*) exit 1;; *-venv*) echo python3.12-venv;; esac',
            "apt-get install python3.12-venv",
        ),
    ],
    ids=["an old Python", "a Debian without python3-venv"],
)
def test_setup_says_what_is_missing_and_leaves_nothing_half_made(tmp_path, python, said):
    ran, checkout = set_up_with(python, tmp_path)
    assert ran.returncode != 0
    assert said in ran.stderr
    assert not (checkout / ".venv").exists()


def test_setup_never_empties_what_a_link_leads_to(tmp_path):
    somebodys = tmp_path / "somebody's"
    (somebodys / "bin").mkdir(parents=True)
    _, checkout = set_up_with("exit 0", tmp_path, linked=somebodys)
    assert (somebodys / "bin").is_dir()
    assert not (checkout / ".venv").is_symlink()


def set_up_with(
    python: str, folder: Path, linked: Path | None = None
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """`make setup` in a checkout whose Python is this script, and whose `.venv` may be a link.
    Returns how it went.
    """
    checkout = folder / "a folder with spaces"
    (checkout / ".ci").mkdir(parents=True)
    for name in (
        "Makefile",
        ".ci/install",
        "pyproject.toml",
        "requirements.txt",
        "requirements-dev.txt",
    ):
        shutil.copy(ROOT / name, checkout / name)
    if linked:
        (checkout / ".venv").symlink_to(linked)
    fake = folder / "python"
    fake.write_text(f"#!/bin/sh\n{python}\n")
    fake.chmod(0o755)
    command = ["make", "setup", f"PYTHON={fake}"]
    return subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, check=False
    ), checkout


# --- papers ---------------------------------------------------------------------------------------
@papers
def test_every_make_target_a_paper_names_exists(paper):
    named = set(re.findall(r"(?:^|`|\$ )make ([a-z]+)", paper.read_text(), re.MULTILINE))
    assert named <= make_targets()


def leaves() -> dict[str, click.Command]:
    """Each command that does something: "failed list", "work"."""
    found = {}
    for name, command in our_commands().items():
        verbs = command.commands if isinstance(command, click.Group) else {"": command}
        found |= {f"{name} {verb}".strip(): each for verb, each in verbs.items()}
    return found


@papers
def test_every_celery_command_a_paper_shows_exists(paper):
    shown = set(re.findall(r"celery -A \w+ ([a-z]+)", paper.read_text()))
    assert shown <= set(celery_command.commands) | set(our_commands())


@papers
def test_every_verb_and_option_of_our_commands_that_a_paper_shows_exists(paper):
    lines = re.findall(r"celery -A \w+ ([a-z]+(?: [^\n`#>&;|]*)?)", paper.read_text())
    for line in (line for line in lines if line.split()[0] in our_commands()):
        words = line.split()
        name = words[0] if words[0] in leaves() else " ".join(words[:2])
        assert name in leaves() or len(words) == 1 or words[1].startswith("-"), line
        if name in leaves() and not leaves()[name].ignore_unknown_options:
            known = {option for parameter in leaves()[name].params for option in parameter.opts} | {
                "--help"
            }
            assert {word for word in words if word.startswith("--")} <= known, line


def test_every_command_and_every_option_of_it_is_documented():
    page = (ROOT / "docs/commands.md").read_text()
    missing = []
    for name, command in leaves().items():
        rows = "\n".join(row for row in page.splitlines() if f"`{name}" in row or f"{name} " in row)
        options = [
            max(each.opts, key=len) for each in command.params if isinstance(each, click.Option)
        ]
        missing += [
            f"{name} {option}" for option in ["", *options] if not rows or option not in rows
        ]
    assert missing == []


def test_every_command_says_what_it_does():
    helps = {
        name: [
            command.help,
            *(each.help for each in command.params if isinstance(each, click.Option)),
        ]
        for name, command in leaves().items()
    }
    assert [name for name, texts in helps.items() if not all(texts)] == []


def test_every_error_is_documented_and_no_other():
    raised = {
        name
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, Exception)
    }
    rows = re.findall(
        r"^\| `(\w+)` \|([^|]*)\|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE
    )
    assert {name for name, _ in rows} == raised
    for name, also in rows:
        assert set(re.findall(r"\w+", also)) <= {
            each.__name__ for each in getattr(errors, name).__mro__
        }, name


def test_every_event_is_documented():
    page = (ROOT / "docs/tasks.md").read_text()
    assert [event.value for event in Event if f"| `{event.value}` |" not in page] == []


@papers
def test_every_link_in_a_paper_leads_somewhere(paper):
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", paper.read_text())
    dead = [link for link in links if "://" not in link and not (paper.parent / link).exists()]
    assert dead == []


@pytest.mark.parametrize("paper", [*PAPERS, *PROJECT_PAPERS], ids=name_of)
def test_no_line_of_a_paper_is_too_long_to_read(paper):
    lines = enumerate(paper.read_text().splitlines(), 1)
    assert [number for number, line in lines if len(line) > LONGEST_LINE] == []


def test_every_import_that_a_paper_shows_works():
    broken = []
    for paper in PAPERS:
        shown = re.findall(
            r"^(?:from|import) (?:relevo|app|tasks|web)\b.*$", paper.read_text(), re.MULTILINE
        )
        for line in shown:
            try:
                exec(line, {})
            except ImportError as error:
                broken.append(f"{paper.name}: {error}")
    assert broken == []


def test_every_dotted_name_of_ours_that_a_paper_shows_is_there():
    named = {
        name for paper in PAPERS for name in re.findall(r"`(relevo(?:\.\w+)+)`", paper.read_text())
    }
    named -= set(tasks.app.tasks)
    assert [name for name in sorted(named) if not is_there(name)] == []


def is_there(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@papers
def test_every_link_to_a_heading_in_a_paper_leads_to_one(paper):
    links = re.findall(r"\]\(([^)#:]*)#([^)]*)\)", paper.read_text())
    dead = [
        f"{file}#{anchor}"
        for file, anchor in links
        if anchor not in anchors_of(paper.parent / file if file else paper)
    ]
    assert dead == []


def anchors_of(paper: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.*)$", paper.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@papers
def test_every_file_a_paper_names_exists(paper):
    folders = "relevo|tasks|app|web|tests|docs|supervisor|benchmarks|migrations|\\.ci"
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", paper.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_station_is_on_the_page_of_the_architecture():
    page = (ROOT / "docs/architecture.md").read_text()
    stations = [
        f"`{name_of(path)}{'/' if path.is_dir() else ''}`"
        for path in sorted((ROOT / "relevo").iterdir())
        if not path.name.startswith("_") and (path.is_dir() or path.suffix == ".py")
    ]
    assert len(stations) > 20
    assert [station for station in stations if station not in page] == []


def test_the_page_of_the_architecture_has_the_order_of_the_contract():
    (layers,) = (
        contract["layers"]
        for contract in pyproject()["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == ["relevo"]
    )
    page = " ".join((ROOT / "docs/architecture.md").read_text().split())
    assert f"``` {' > '.join(layers)} ```" in page


def test_every_table_is_on_the_page_of_the_internals():
    page = (ROOT / "docs/internals.md").read_text()
    tables = {
        each.name
        for module in (broker_tables, limit_tables, store_tables)
        for each in vars(module).values()
        if isinstance(each, Table)
    }
    assert len(tables) > 20
    assert sorted(name for name in tables if f"`{name}`" not in page) == []


def test_every_promise_has_a_proof_that_is_there():
    promises, _, proofs = (ROOT / "docs/guarantees.md").read_text().partition("## Proofs")
    promised = re.findall(r"^\| ([A-Z]\d+) \| ", promises, re.MULTILINE)
    assert len(promised) == len(re.findall(r"^\| (?!\| when|---)", promises, re.MULTILINE)) > 60
    assert len(set(promised)) == len(promised)
    proved, lacking, file = set(), [], Path("nowhere")
    for ids, cell in re.findall(r"^\| (.*?) ?\| (.*) \|$", proofs, re.MULTILINE)[1:]:
        if heading := re.fullmatch(r"\*\*`(tests/\S+\.py)`\*\*", cell):
            file = ROOT / heading[1]
            continue
        name = re.fullmatch(r"`(test_\w+)`", cell)
        assert name, cell
        proved |= set(ids.split(", "))
        lacking += [cell] if f"def {name[1]}(" not in text_of(file) else []
    assert proved == set(promised)
    assert lacking == []


def test_every_page_of_docs_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in PAPERS[1:] if f"(docs/{page.name})" not in readme] == []


def test_every_note_of_a_change_has_a_name_that_towncrier_reads():
    types = {each["directory"] for each in pyproject()["tool"]["towncrier"]["type"]}
    readme = (ROOT / "changelog.d/README.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE)) == types
    name = re.compile(rf"(?:\d+|\+[a-z0-9-]+)\.(?:{'|'.join(types)})(?:\.\d+)?\.md")
    notes = sorted(path.name for path in (ROOT / "changelog.d").iterdir())
    assert [note for note in notes if note != "README.md" and not name.fullmatch(note)] == []


def test_the_changelog_has_the_line_below_which_towncrier_writes():
    line = pyproject()["tool"]["towncrier"]["start_string"]
    assert (ROOT / "CHANGELOG.md").read_text().count(line) == 1


def test_the_changelog_has_the_version_that_is_installed():
    assert f"## {relevo.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert project()["version"] == relevo.__version__


# --- pins -----------------------------------------------------------------------------------------
@cache
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def project() -> dict:
    return pyproject()["project"]


def pins() -> dict[str, Requirement]:
    """The lines of both requirements files that name a package."""
    lines = [
        line.partition("#")[0].strip()
        for name in ("requirements.txt", "requirements-dev.txt")
        for line in (ROOT / name).read_text().splitlines()
    ]
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return {requirement.name.lower(): requirement for requirement in found}


def test_every_requirement_is_pinned_to_one_version():
    assert [
        str(pin) for pin in pins().values() if [spec.operator for spec in pin.specifier] != ["=="]
    ] == []


def test_every_pin_lies_in_the_range_that_the_package_asks_for():
    asked = [Requirement(line) for line in project()["dependencies"]]
    asked += [
        Requirement(line) for extra in project()["optional-dependencies"].values() for line in extra
    ]
    for requirement in asked:
        (version,) = (spec.version for spec in pins()[requirement.name.lower()].specifier)
        assert requirement.specifier.contains(version), f"expected {requirement}, got {version}"


# --- files ----------------------------------------------------------------------------------------
def our_files() -> list[Path]:
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name not in NOT_OURS and not name.endswith(("_cache", ".egg-info"))
        ]
        found += [Path(folder, name) for name in files if name != ".git"]
    return found


def text_of(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def test_no_file_names_a_path_or_a_host_of_somebodys_machine():
    private = re.compile(f"{MACHINE_PATHS}|{PRIVATE_HOSTS}")
    found = {
        name_of(path): hit[0] for path in our_files() if (hit := private.search(text_of(path)))
    }
    assert found == {}


@modules
def test_a_module_opens_by_saying_what_it_is_for(module):
    assert ast.get_docstring(ast.parse(module.read_text()))


@modules
def test_a_module_is_short_enough_to_read(module):
    assert len(module.read_text().splitlines()) <= LONGEST_MODULE
