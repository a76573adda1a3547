"""The local disk: whole files or none, and no way out of its folder."""

from __future__ import annotations

import io
import os
import threading

import pytest

from relevo.disks import LocalDisk, MissingFileError
from relevo.errors import DiskError


@pytest.fixture
def disk(tmp_path):
    return LocalDisk(tmp_path / "disk")


def test_a_file_that_is_put_can_be_read(disk):
    written = disk.put("a/b/cat.jpg", b"miaow")
    with disk.open("a/b/cat.jpg") as file:
        assert (file.read(), written, disk.size("a/b/cat.jpg")) == (b"miaow", 5, 5)
    assert disk.exists("a/b/cat.jpg")


def test_a_stream_is_copied_piece_by_piece(disk):
    class Endless(io.RawIOBase):
        largest = 0
        left = 5_000_000

        def read(self, size=-1):
            assert size > 0, "a stream must not be read whole"
            self.largest = max(self.largest, size)
            piece = b"x" * min(size, self.left)
            self.left -= len(piece)
            return piece

    source = Endless()
    assert disk.put("big", source) == disk.size("big") == 5_000_000
    assert source.largest <= 1024 * 1024


def test_put_replaces_and_delete_is_idempotent(disk):
    disk.put("a", b"old")
    disk.put("a", b"new")
    assert disk.open("a").read() == b"new"
    disk.delete("a")
    disk.delete("a")
    assert not disk.exists("a")


@pytest.mark.parametrize(
    "path",
    [
        "../out",
        "a/../../out",
        "/etc/passwd",
        "a/..",
        "..",
        "",
        " ",
        ".",
        "a\0b",
        "a\nb",
        "..\\out",
        "C:\\out",
        None,
        7,
        b"a",
    ],
)
def test_a_path_that_leads_out_is_refused_and_shown(disk, path):
    for act in (disk.open, disk.exists, disk.delete, disk.size, lambda path: disk.put(path, b"x")):
        with pytest.raises(DiskError, match="expected") as caught:
            act(path)
        assert repr(path) in str(caught.value)


def test_a_symbolic_link_that_leads_out_is_refused(disk, tmp_path):
    disk.put("here", b"x")
    (tmp_path / "secret").write_bytes(b"secret")
    (disk.root / "link").symlink_to(tmp_path / "secret")
    (disk.root / "folder").symlink_to(tmp_path)
    (disk.root / "loop").symlink_to("loop")
    for path in ("link", "folder/secret", "folder/new"):
        with pytest.raises(DiskError, match="leads out"):
            disk.open(path)
        with pytest.raises(DiskError, match="leads out"):
            disk.put(path, b"overwritten")
    with pytest.raises((DiskError, OSError)):
        disk.open("loop")
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_a_link_inside_the_disk_and_a_disk_that_is_itself_a_link_work(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "disk").symlink_to(tmp_path / "real")
    disk = LocalDisk(tmp_path / "disk")
    disk.put("cat", b"miaow")
    (disk.root / "alias").symlink_to("cat")
    assert disk.open("alias").read() == b"miaow"


def test_a_missing_file_a_folder_and_a_pipe_are_different_errors(disk):
    disk.put("folder/cat", b"miaow")
    os.mkfifo(disk.root / "pipe")
    with pytest.raises(MissingFileError, match="there is no file 'dog'"):
        disk.open("dog")
    with pytest.raises(MissingFileError, match="there is no file"):
        disk.open("folder/cat/dog")
    with pytest.raises(DiskError, match="got the folder 'folder'"):
        disk.open("folder")
    with pytest.raises(DiskError, match="got the folder 'folder'"):
        disk.put("folder", b"x")
    with pytest.raises(DiskError, match="pipe"):
        disk.open("pipe")
    with pytest.raises(DiskError, match="got a file among them"):
        disk.put("folder/cat/dog", b"x")


def test_a_source_that_breaks_leaves_the_old_file_and_nothing_else(disk):
    class Broken(io.RawIOBase):
        reads = 0

        def read(self, size=-1):
            self.reads += 1
            if self.reads > 1:
                raise OSError(5, "Input/output error")
            return b"half of it"

    disk.put("cat", b"whole")
    with pytest.raises(OSError, match="Input/output"):
        disk.put("cat", Broken())
    assert disk.open("cat").read() == b"whole"
    assert [entry.name for entry in disk.root.iterdir()] == ["cat"]


def test_a_file_being_written_has_the_temporary_name_beside_its_place(disk):
    seen = []

    class Looking(io.BytesIO):
        def read(self, size=-1):
            seen.extend(entry.name for entry in (disk.root / "a").iterdir())
            return super().read(size)

    disk.put("a/cat", Looking(b"miaow"))
    assert seen
    assert all(name.startswith(".") and name.endswith(".part") for name in seen)


def test_a_staged_file_is_whole_before_it_is_put_in_place_and_removed_otherwise(disk):
    disk.put("a/cat.jpg", b"old")
    with disk.staged("a/cat.jpg", io.BytesIO(b"new")) as put_in_place:
        assert disk.open("a/cat.jpg").read() == b"old"
        assert sorted(file.read_bytes() for file in disk.path("a").iterdir()) == [b"new", b"old"]
        put_in_place()
        assert disk.open("a/cat.jpg").read() == b"new"
    with pytest.raises(ZeroDivisionError), disk.staged("a/cat.jpg", b"newer"):
        raise ZeroDivisionError
    assert [file.read_bytes() for file in disk.path("a").iterdir()] == [b"new"]
    with pytest.raises(DiskError), disk.staged("../out", b"x"):
        pytest.fail("a path that climbs out")


def test_writers_of_one_file_leave_one_of_their_files_whole(disk):
    contents = [bytes([n]) * 300_000 for n in range(8)]
    threads = [threading.Thread(target=disk.put, args=("cat", content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert disk.open("cat").read() in contents
    assert len(list(disk.root.iterdir())) == 1


def test_the_longest_name_a_file_system_takes_can_be_put(disk):
    disk.put("n" * 255, b"x")
    assert disk.exists("n" * 255)
