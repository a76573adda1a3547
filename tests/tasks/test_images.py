"""images.process: rows and files from a picture, and what becomes of jobs that can't."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import signal
import threading

import pytest
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from PIL import Image
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

import tasks
from app.models import File, FileVersion, User, session
from app.settings import engine as _settings
from relevo.disks import LocalDisk
from relevo.errors import DiskError, OptionError
from relevo.job.payload import Job
from tasks import images
from tasks.pictures import ImageError
from tests.support import programs
from tests.support.pictures import saved, scene
from tests.support.programs import APPLICATION, ROOT


@pytest.fixture
def disk(tmp_path, new_database, monkeypatch):
    """A disk and a database of the test's own, for the tasks too."""
    shutil.copy(new_database, tmp_path / "app.sqlite3")
    for name in ("REDIS_URL", "REDIS_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/app.sqlite3")
    monkeypatch.setenv("FILES_DISK_ROOT", str(tmp_path / "files"))
    monkeypatch.setattr(
        tasks.app, "settings", dataclasses.replace(tasks.app.settings, storage=tmp_path / "files")
    )
    _settings.cache_clear()
    yield LocalDisk(tmp_path / "files")
    _settings.cache_clear()


def stored(disk, data, path="uploads/cat.jpg"):
    """A file of a user with this content; its id."""
    if data is not None:
        disk.put(path, data)
    with session() as db:
        user = db.scalars(select(User)).first() or User(name="Ada", email="ada@example.com")
        db.add(user)
        db.flush()
        file = File(
            user_id=user.id,
            disk="local",
            path=path,
            original_name="cat.jpg",
            mime="image/jpeg",
            size=1,
        )
        db.add(file)
        db.flush()
        return file.id


def row(file_id):
    with session() as db:
        return db.get(File, file_id)


def versions(file_id):
    with session() as db:
        return {v.name: v for v in db.scalars(select(FileVersion).filter_by(file_id=file_id))}


def run(*args, **kwargs):
    """The job, run in this process with everything that a worker does, retries at once."""
    return images.process.apply(args, kwargs)


@pytest.fixture
def picture():
    return saved(scene(1600, 1200)).getvalue()


def check(disk, file_id, names=("large", "medium", "thumbnail")):
    """Rows and files agree, and there is nothing else."""
    assert sorted(versions(file_id)) == sorted(names)
    for version in versions(file_id).values():
        with disk.open(version.path) as file, Image.open(file) as image:
            assert image.size == (version.width, version.height)
        assert disk.size(version.path) == version.bytes
        assert max(version.width, version.height) == version.options["edge"]
    there = {
        f"versions/{file_id}/{entry.name}"
        for entry in (disk.root / "versions" / str(file_id)).iterdir()
    }
    assert there == {version.path for version in versions(file_id).values()}


def test_the_task_is_what_parity_asks_for():
    options = images.process.options
    assert (
        options.queue,
        options.tries,
        options.timeout,
        list(options.backoff),
        options.max_exceptions,
        options.retry_until,
    ) == ("default", 3, 300, [10, 30, 60], 2, 600)
    assert images.process.time_limit == 300
    assert images.tags_of(7, user_id=3) == ["image-processing", "file:7", "user:3"]


def test_a_picture_gets_its_three_versions_and_is_marked(disk, picture):
    file_id = stored(disk, picture)
    result = run(file_id).get()
    check(disk, file_id)
    assert result["versions"] == {name: version.path for name, version in versions(file_id).items()}
    assert (result["file"], 0 < result["seconds"] < 60) == (file_id, True)
    assert row(file_id).processed_at.utcoffset().total_seconds() == 0
    assert row(file_id).error is None
    assert versions(file_id)["large"].options == {"edge": 1024, "format": "JPEG", "quality": 85}


def test_sizes_can_be_given(disk, picture):
    file_id = stored(disk, picture)
    run(file_id, {"icon": 16, "poster": 1200}).get()
    check(disk, file_id, ["icon", "poster"])


def test_a_second_run_makes_no_second_row(disk, picture):
    file_id = stored(disk, picture)
    run(file_id).get()
    first = {name: version.id for name, version in versions(file_id).items()}
    run(file_id, {"thumbnail": 80, "medium": 500, "large": 1024}).get()
    check(disk, file_id)
    assert {name: version.id for name, version in versions(file_id).items()} == first
    assert versions(file_id)["thumbnail"].width == 80


def test_a_version_of_another_kind_takes_the_old_file_with_it(disk, picture):
    file_id = stored(disk, picture)
    run(file_id).get()
    disk.put("uploads/cat.jpg", saved(scene(1600, 1200), "PNG").getvalue())
    run(file_id).get()
    check(disk, file_id)
    assert versions(file_id)["large"].path.endswith(".png")


def test_runs_at_the_same_time_leave_rows_that_fit_the_files(disk, picture):
    file_id = stored(disk, picture)
    results = []
    asked = [{"thumbnail": 100 + n, "large": 900 + n} for n in range(4)]
    threads = [
        threading.Thread(target=lambda s=sizes: results.append(run(file_id, s).state))
        for sizes in asked
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["SUCCESS"] * 4
    check(disk, file_id, ["large", "thumbnail"])


@pytest.mark.parametrize(
    "where", ["between two sizes", "while a file is written", "before the commit"]
)
def test_a_run_that_is_killed_half_way_and_run_again_ends_right(disk, picture, where, tmp_path):
    file_id = stored(disk, picture)
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = programs.run(
        "-c", KILLED, str(file_id), where, environ=settings, folder=tmp_path, modules=APPLICATION
    )
    assert killed.returncode == -signal.SIGKILL
    assert row(file_id).processed_at is None
    assert set(versions(file_id)) == ({"large"} if where == "between two sizes" else set())
    assert run(file_id).state == "SUCCESS"
    for part in (disk.root / "versions" / str(file_id)).glob(
        ".*.part"
    ):  # what cleanup.temporary_files is for
        part.unlink()
    check(disk, file_id)
    assert row(file_id).processed_at


KILLED = """
import os, signal, sys
from tasks import images
from tasks.pictures import ImageError
file_id, where = int(sys.argv[1]), sys.argv[2]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if where == "between two sizes":
    images.process.progress = die
elif where == "while a file is written":
    os.fsync = die
else:
    from relevo.disks import local
    rename = local._rename
    local._rename = lambda *args: die(rename(*args))
images.process.apply((file_id,))
"""


def test_progress_is_told_for_each_size(disk, picture, monkeypatch):
    told = []
    monkeypatch.setattr(
        images.process, "progress", lambda done, total: told.append((done, total, len(versions(1))))
    )
    assert stored(disk, picture) == 1
    run(1).get()
    assert told == [(1, 3, 1), (2, 3, 2), (3, 3, 3)]


# -- what goes wrong
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def attempts(monkeypatch):
    """Counts the attempts."""
    made = []
    make = images._make_versions
    monkeypatch.setattr(images, "_make_versions", lambda *args: made.append(1) or make(*args))
    return made


def test_a_file_that_is_no_image_is_skipped_and_its_row_says_so(disk, attempts):
    file_id = stored(disk, b"Dear Ada, I am no picture.")
    result = run(file_id)
    assert (result.state, len(attempts)) == ("SUCCESS", 1)
    assert "not an image" in result.get()["skipped"]
    assert "not an image" in row(file_id).error
    assert versions(file_id) == {}


@pytest.mark.parametrize(
    ("data", "path", "says", "kind"),
    [
        (None, "gone.jpg", "there is no file 'gone.jpg'", DiskError),
        (
            None,
            "../secret.jpg",
            "expected a relative path inside the disk, got '../secret.jpg'",
            DiskError,
        ),
        (None, "/etc/passwd", "expected a relative path", DiskError),
        (None, "", "expected the path of a file, got ''", DiskError),
        (None, "uploads", "got the folder 'uploads'", DiskError),
        (saved(scene()).getvalue()[:3000], "cut.jpg", "damaged or cut short", ImageError),
        (
            saved(Image.new("1", (20_000, 20_000)), "PNG").getvalue(),
            "bomb.png",
            "unpacks to too many pixels",
            ImageError,
        ),
    ],
)
def test_a_permanent_error_fails_at_once(disk, attempts, data, path, says, kind):
    (disk.root / "uploads").mkdir(parents=True)
    file_id = stored(disk, data, path)
    result = run(file_id)
    assert (result.state, len(attempts)) == ("FAILURE", 1)
    assert isinstance(result.result, kind)
    assert says in row(file_id).error
    assert row(file_id).processed_at is None


def test_a_file_on_an_unknown_disk_is_named(disk, picture):
    file_id = stored(disk, picture)
    with session() as db:
        db.get(File, file_id).disk = "moon"
    assert run(file_id).state == "FAILURE"
    assert "got 'moon'" in row(file_id).error


def test_invalid_sizes_fail_before_any_work(disk, picture, attempts):
    file_id = stored(disk, picture)
    result = run(file_id, {"../x": 10})
    assert (result.state, len(attempts)) == ("FAILURE", 0)
    assert isinstance(result.result, OptionError)
    assert "'../x'" in row(file_id).error
    assert not (disk.root / "versions").exists()


def test_an_empty_file_is_no_image(disk):
    file_id = stored(disk, b"")
    assert run(file_id).state == "SUCCESS"
    assert row(file_id).error == "the file is empty"


def test_a_wrong_name_does_not_matter(disk):
    file_id = stored(disk, saved(scene(), "PNG").getvalue(), "uploads/photo.jpg")
    run(file_id, {"small": 50}).get()
    assert versions(file_id)["small"].path.endswith("small.png")


def test_an_error_of_the_disk_is_retried(disk, picture, attempts, monkeypatch):
    file_id = stored(disk, picture)
    staged, troubles = LocalDisk.staged, [OSError(28, "No space left on device")]

    def full_once(self, path, source):
        if troubles:
            raise troubles.pop()
        return staged(self, path, source)

    monkeypatch.setattr(LocalDisk, "staged", full_once)
    assert run(file_id).state == "SUCCESS"
    assert len(attempts) == 2
    check(disk, file_id)


def test_after_the_second_exception_the_row_says_how_it_ended(disk, picture, attempts, monkeypatch):
    file_id = stored(disk, picture)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalDisk, "staged", full)
    assert run(file_id).state == "FAILURE"
    assert len(attempts) == 2
    assert "No space left on device" in row(file_id).error
    assert versions(file_id) == {}


def test_a_database_error_is_retried(disk, picture, attempts, monkeypatch):
    file_id = stored(disk, picture)
    locked, troubles = images._lock_file, [OperationalError("SELECT", {}, Exception("gone away"))]
    monkeypatch.setattr(
        images,
        "_lock_file",
        lambda *args: locked(*args) if not troubles else raised(troubles.pop()),
    )
    assert run(file_id).state == "SUCCESS"
    assert len(attempts) == 2


def raised(error):
    raise error


def test_a_row_that_is_not_committed_yet_is_waited_for_and_a_missing_one_is_named(disk, attempts):
    stored(disk, None)
    result = run(99)
    assert (result.state, len(attempts)) == ("FAILURE", 2)
    assert "there is no file 99" in str(result.result)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TimeLimitExceeded(300), "it took longer than 300 seconds"),
        (
            WorkerLostError("The worker process was killed."),
            "WorkerLostError: The worker process was killed.",
        ),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (ValueError("first line\nsecond line"), "ValueError: first line"),
    ],
)
def test_the_row_has_the_final_error_in_one_line(disk, error, says):
    file_id = stored(disk, None)
    for args, kwargs in [((file_id,), {}), ((), {"file_id": file_id})]:
        job = Job("id", "images.process", args, kwargs, "default", 3, 2, None, ())
        images.process_failed(job, error)
        assert row(file_id).error == says


def test_a_picture_that_was_in_error_is_processed_when_it_has_been_replaced(disk, picture):
    file_id = stored(disk, b"no picture")
    run(file_id).get()
    disk.put("uploads/cat.jpg", io.BytesIO(picture))
    run(file_id).get()
    assert row(file_id).error is None
    assert row(file_id).processed_at


def test_a_file_deleted_meanwhile_gets_no_versions(disk, picture, monkeypatch):
    file_id = stored(disk, picture)

    def deleting(file, sizes):
        with session() as db:
            db.delete(db.get(File, file_id))
        return make(file, sizes)

    make = images.make_versions
    monkeypatch.setattr(images, "make_versions", deleting)
    assert run(file_id).state == "FAILURE"
    assert not [path for path in (disk.root / "versions").rglob("*") if path.is_file()]
