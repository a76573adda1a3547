"""The demo as a user runs it: a program, a worker, a queue, files; and Ctrl-C at any moment."""

from __future__ import annotations

import os
import re
import secrets
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from PIL import Image
from sqlalchemy import select

from app.models import File, FileVersion, User, session
from tasks.demo.__main__ import choose
from tasks.demo.pictures import drawn, in_folder
from tasks.demo.uploads import EMAIL
from tasks.pictures import ImageError, make_versions, validate_sizes
from tests.support.pictures import moving, saved, scene
from tests.support.programs import APPLICATION, ROOT, start
from tests.support.waits import LONG, eventually

DATABASE = "var/relevo.sqlite3"


class Demo:
    """A started demo and its output. Its worker is a fresh Python, as a user's is."""

    def __init__(self, arguments, environ, folder):
        self.output = folder.with_name(f"demo-{secrets.token_hex(4)}.log")
        with self.output.open("wb") as output:
            command = ["-m", "tasks.demo", *arguments]
            self.process = start(
                *command, environ=environ, output=output, folder=folder, modules=APPLICATION
            )
        self.pid = self.process.pid

    def until(self, line):
        """Wait until it says so."""
        eventually(
            lambda: line in self.output.read_text() or self.process.poll() is not None,
            self.output.read_text,
        )
        assert line in self.output.read_text()

    def end(self, within=LONG):
        """Wait for its end; returns its exit code and output."""
        return self.process.wait(within), self.output.read_text()


class Place:
    """A folder to run the demo in, and a mark by which everything it starts is known."""

    def __init__(self, folder):
        self.folder = folder
        self.demos = []
        self.mark = secrets.token_hex(8)
        ours = ("QUEUE_", "REDIS_", "RELEVO_", "FILES_DISK_", "DATABASE_URL")
        self.settings = {
            name: value for name, value in os.environ.items() if not name.startswith(ours)
        }
        self.settings |= {"PYTHONPATH": str(ROOT), "DEMO_MARK": self.mark, "PYTHONUNBUFFERED": "1"}

    def start(self, *arguments, **settings):
        """The demo in a session of its own, as a terminal would have it."""
        self.demos.append(Demo(arguments, self.settings | settings, self.folder))
        return self.demos[-1]

    def run(self, *arguments, **settings):
        return self.start(*arguments, **settings).end()

    def running(self):
        """Every process that was started here and still is."""
        found = [psutil.Process(demo.pid) for demo in self.demos if demo.process.poll() is None]
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if (
                    process.environ().get("DEMO_MARK") == self.mark
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
        return found

    def session(self):
        return session(f"sqlite:///{self.folder / DATABASE}")

    def files(self):
        with self.session() as db:
            own = select(File).join(User, User.id == File.user_id).where(User.email == EMAIL)
            return {file.original_name: file for file in db.scalars(own)}

    def check(self):
        """Nothing runs, nothing is half written, each row has its file and each file its row."""
        assert self.running() == []
        with self.session() as db:
            rows = {
                version.path: (version.width, version.height)
                for version in db.scalars(select(FileVersion))
            }
        disk = self.folder / "var/files"
        there = {str(path.relative_to(disk)) for path in disk.glob("versions/*/*")}
        assert there == rows.keys()
        for path, size in rows.items():
            with Image.open(disk / path) as image:
                image.load()
                assert image.size == size
        assert not list(disk.rglob("*.part"))


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    place = Place(folder)
    yield place
    for process in place.running():  # a test that failed leaves nothing either
        process.kill()


@pytest.fixture
def mine(tmp_path):
    """A folder with a user's pictures, two of which are none."""
    folder = tmp_path / "mine"
    (folder / "deeper").mkdir(parents=True)
    first, *others = moving(3, (90, 60))
    for name, file in {
        "b.jpg": saved(scene(900, 600)),
        "a.png": saved(scene(300, 200), "PNG"),
        "moving.gif": saved(first, "GIF", save_all=True, append_images=others, duration=80),
        "deeper/[red]Größe.webp": saved(scene(200, 200), "WEBP"),
    }.items():
        (folder / name).write_bytes(file.read())
    (folder / "broken.jpg").write_bytes((folder / "b.jpg").read_bytes()[:900])
    (folder / "notes.txt").write_text("no picture")
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder)
    return folder


@pytest.fixture
def many(tmp_path):
    """Enough pictures to be in the middle of them for a while."""
    folder = tmp_path / "many"
    folder.mkdir()
    data = saved(scene(1100, 800), "PNG").read()
    for number in range(16):
        (folder / f"{number:02}.png").write_bytes(data)
    return folder


def test_a_folder_of_pictures_becomes_thumbnails_the_tour_follows_and_nothing_is_left_running(
    place, mine
):
    code, said = place.run("--images", str(mine), "--tour")
    assert code == 0, said
    place.check()
    assert "a batch: 5 of 5 pictures as a batch, 0 failed" in said
    assert "an import: 3 users imported, 2 rows bad\n  row 4: expected an address" in said
    assert re.search(
        r'a webhook: \{"tour":"\w+"\} delivered to http://127.0.0.1:\d+/hook, signed v1,', said
    )
    assert Path(re.search(r"a report: (.*\.pdf)", said)[1]).read_bytes().startswith(b"%PDF-")
    assert "/files/reports/1/system-health.pdf?expires=" in said
    mailed = re.search(r"mails: (.*); in (.*)", said)
    assert "Import guests.csv: 3 good, 2 bad" in mailed[1]
    assert len(list(Path(mailed[2]).glob("*.eml"))) == 6, (
        "the tour's three, and three guests are welcomed"
    )
    files = place.files()
    assert set(files) == {
        "b.jpg",
        "a.png",
        "moving.gif",
        "deeper/[red]Größe.webp",
        "broken.jpg",
        "notes.txt",
    }
    assert {name for name, file in files.items() if file.error} == {"broken.jpg", "notes.txt"}
    assert all(file.processed_at for file in files.values() if not file.error)
    assert "4 pictures have 12 versions; 2 ended in an error." in said
    assert str(place.folder / "var/files/versions") in said
    assert re.search(r"b\.jpg +[\d,]+ +large +900x600 +[\d,]+ +[\d,]+ *\n", said)
    assert "[red]Größe.webp" in said


def test_two_demos_at_the_same_time_both_finish(place, mine):
    demos = [place.start("--images", str(mine)) for _ in range(2)]
    endings = [demo.end() for demo in demos]
    assert [code for code, _ in endings] == [0, 0], endings
    place.check()
    with place.session() as db:
        assert len(db.scalars(select(File)).all()) == 12


def forked(place, _demo):
    eventually((place.folder / "var/demo-worker.log").exists)


def at_work(_place, demo):
    demo.until("[3/16]")


def on_the_tour(_place, demo):
    demo.until("[4/4]")


@pytest.mark.parametrize(
    ("moment", "number", "pictures"),
    [(forked, signal.SIGTERM, 4), (at_work, signal.SIGINT, 16), (on_the_tour, signal.SIGINT, 4)],
)
def test_ctrl_c_leaves_nothing_running_and_nothing_broken(
    place, many, mine, moment, number, pictures
):
    for path in sorted(many.iterdir())[pictures:]:
        path.unlink()
    demo = place.start("--images", str(many), "--tour")
    moment(place, demo)
    os.killpg(demo.pid, number)  # as a terminal does it: to the whole group
    code, said = demo.end()
    assert (code, "Stopped" in said) == (130, True), said
    place.check()
    assert not any(file.error for file in place.files().values())
    assert place.run("--images", str(mine))[0] == 0
    place.check()
    assert all(file.processed_at or file.error for file in place.files().values()), (
        "jobs of the first run were lost"
    )


def test_an_impatient_second_ctrl_c_ends_it_at_once(place, many):
    demo = place.start("--images", str(many))
    demo.until("[1/16]")
    workers = place.running()
    for process in workers:  # a worker that can't end
        if process.pid != demo.pid:
            process.suspend()
    demo.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    demo.process.send_signal(signal.SIGINT)
    assert demo.end()[0] == 130
    assert place.running() == []


def test_a_dead_worker_is_reported_with_its_last_log_lines(place, many):
    demo = place.start("--images", str(many))
    demo.until("[1/16]")
    worker = min(psutil.Process(demo.pid).children(), key=lambda process: process.create_time())
    worker.kill()
    code, said = demo.end()
    assert code == 1
    assert "the worker ended before the pictures were done" in said
    assert "images.process" in said
    assert place.running() == []


def test_a_worker_that_can_not_start_is_reported_with_its_last_log_lines(place, mine):
    refusing = "import sys\nif 'celery' in sys.orig_argv: sys.exit('no worker today')"
    (place.folder / "sitecustomize.py").write_text(refusing)
    code, said = place.run("--images", str(mine), PYTHONPATH=f"{place.folder}{os.pathsep}{ROOT}")
    assert (code, "no worker today" in said) == (1, True), said
    assert place.running() == []


def test_without_a_broker_it_runs_in_one_process(place, mine):
    code, said = place.run("--images", str(mine), QUEUE_CONNECTION="sync")
    assert (code, "4 pictures have 12 versions" in said) == (0, True), said
    assert not (place.folder / "var/demo-worker.log").exists()
    place.check()


def test_a_bad_folder_ends_the_demo_before_anything_starts(place):
    code, said = place.run("--images", "gone")
    assert (code, "expected --images to be a folder, got 'gone'" in said) == (2, True), said
    assert not (place.folder / "var").exists()


@pytest.mark.parametrize(
    ("name", "says"), [("empty", "found no file"), ("file", "be a folder"), ("", "be a folder")]
)
def test_the_error_names_a_bad_folder(tmp_path, monkeypatch, capsys, name, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(sys, "argv", ["demo", "--images", str(tmp_path / name) if name else ""])
    with pytest.raises(SystemExit) as ended:
        choose()
    assert (ended.value.code, says in capsys.readouterr().err) == (2, True)


def test_the_drawn_pictures_are_of_all_kinds_and_one_is_broken(mine):
    kinds, broken = [], []
    for name, opener in drawn(0.05):
        try:
            versions = list(make_versions(opener(), validate_sizes(None)))
        except ImageError:
            broken.append(name)
        else:
            assert len(versions) == 3
            kinds.append(Image.open(opener()).format)
    assert (len(kinds), len(broken)) == (11, 1)
    assert set(kinds) == {"JPEG", "PNG", "GIF", "TIFF", "WEBP", "AVIF"}


def test_a_folder_is_read_in_order_without_pipes_and_without_going_in_circles(mine):
    assert [name for name, _ in in_folder(mine)] == [
        "a.png",
        "b.jpg",
        "broken.jpg",
        "moving.gif",
        "notes.txt",
        "deeper/[red]Größe.webp",
    ]
