"""A bucket keeps the contract of a disk, on a real server with the protocol of S3."""

from __future__ import annotations

import contextlib
import io
import logging

import httpx
import pytest
from moto.server import ThreadedMotoServer

from relevo.config.services import S3Settings
from relevo.disks import LinkError, Links, LocalDisk, MissingFileError, disk_for
from relevo.disks.s3 import S3Disk
from relevo.errors import DiskError, SettingsError
from tests.support.settings import load


@pytest.fixture(scope="module")
def endpoint():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    httpx.put(f"{url}/pictures").raise_for_status()
    yield url
    with contextlib.suppress(Exception):
        server.stop()


@pytest.fixture(params=["local", "s3"])
def disk(request, tmp_path):
    if request.param == "local":
        return LocalDisk(tmp_path, Links("http://127.0.0.1/files", b"secret"))
    url = request.getfixturevalue("endpoint")
    return S3Disk(S3Settings("pictures", tmp_path.name, "us-east-1", url, "key", "secret"))


def test_a_file_is_put_read_replaced_and_deleted_twice(disk):
    assert disk.put("a/b/cät #1.jpg", b"miaow") == 5
    with disk.open("a/b/cät #1.jpg") as file:
        assert (file.read(2), file.seek(0), file.read()) == (b"mi", 0, b"miaow")
    assert (disk.exists("a/b/cät #1.jpg"), disk.size("a/b/cät #1.jpg")) == (True, 5)
    disk.put("a/b/cät #1.jpg", io.BytesIO(b"new"))
    assert disk.open("a/b/cät #1.jpg").read() == b"new"
    disk.delete("a/b/cät #1.jpg")
    disk.delete("a/b/cät #1.jpg")
    assert not disk.exists("a/b/cät #1.jpg")


def test_a_large_file_and_one_that_is_read_from_its_middle(disk):
    data = bytes(range(256)) * 60_000
    source = io.BytesIO(b"head" + data)
    source.seek(4)
    assert disk.put("large", source) == len(data)
    with disk.open("large") as file:
        assert file.read() == data


def test_a_missing_file_is_an_error_of_its_own(disk):
    for act in (disk.open, disk.size):
        with pytest.raises(MissingFileError, match="'none'"):
            act("none")


@pytest.mark.parametrize(
    "path", ["../out", "/etc/passwd", "a/../../b", "", " ", "a\nb", "a\\b", None, 7]
)
def test_a_malformed_path_is_refused(disk, path):
    for act in (
        disk.open,
        disk.exists,
        disk.size,
        disk.delete,
        lambda path: disk.put(path, b""),
        lambda path: disk.link(path, 9),
    ):
        with pytest.raises(DiskError, match="expected"):
            act(path)


def test_a_link_into_a_bucket_works_without_credentials_for_at_most_seven_days(endpoint):
    disk = S3Disk(S3Settings("pictures", "", "us-east-1", endpoint, "key", "secret"))
    disk.put("linked", b"hello")
    assert httpx.get(disk.link("linked", 604_800)).content == b"hello"
    with pytest.raises(DiskError, match="at most 7 days"):
        disk.link("linked", 604_801)


def test_a_server_that_is_away_or_a_bucket_that_is_not_there_is_an_os_error(endpoint):
    disk = S3Disk(S3Settings("nobodys", "", "us-east-1", endpoint, "key", "secret"))
    with pytest.raises(OSError, match="bucket"):
        disk.put("a", b"b")


def test_a_local_link_names_its_file_until_it_expires(monkeypatch):
    links = Links("https://shop.example/files", b"secret")
    url = httpx.URL(links.make("exports/7/a b.csv", 60, "Gäste.csv"))
    assert url.path == "/files/exports/7/a b.csv"
    query = dict(url.params)
    assert links.check("exports/7/a b.csv", query) == "Gäste.csv"
    for path, changed in [
        ("exports/8/a b.csv", query),
        ("exports/7/a b.csv", {**query, "expires": "99999999999"}),
        ("exports/7/a b.csv", {**query, "name": "x"}),
        ("exports/7/a b.csv", {}),
    ]:
        with pytest.raises(LinkError, match="changed"):
            links.check(path, changed)
    with pytest.raises(LinkError, match="changed"):
        Links("https://shop.example/files", b"another").check("exports/7/a b.csv", query)
    monkeypatch.setattr("relevo.clock.now", lambda: float(query["expires"]) + 1)
    with pytest.raises(LinkError, match="expired"):
        links.check("exports/7/a b.csv", query)


def test_disks_are_found_by_name(tmp_path):
    settings = load(
        FILES_DISK="s3",
        FILES_DISK_BUCKET="s3://key:se%2Fcret@bucket/deep/folder?region=eu-central-1&endpoint=http://h:9",
    )
    assert settings.s3 == S3Settings(
        "bucket", "deep/folder", "eu-central-1", "http://h:9", "key", "se/cret"
    )
    assert isinstance(disk_for(settings, "s3"), S3Disk)
    assert isinstance(disk_for(settings, "local"), LocalDisk)
    assert "cret" not in repr(settings)
    with pytest.raises(DiskError, match="needs the setting FILES_DISK_BUCKET"):
        disk_for(load(), "s3")
    with pytest.raises(DiskError, match="'ftp'"):
        disk_for(load(), "ftp")


@pytest.mark.parametrize("url", ["bucket", "http://k:hidden@h", "s3://", "s3://b?regoin=x"])
def test_a_bad_bucket_stops_the_start(url):
    with pytest.raises(SettingsError, match="FILES_DISK_BUCKET") as refused:
        load(FILES_DISK_BUCKET=url)
    assert "hidden" not in str(refused.value)
    with pytest.raises(SettingsError, match="needs FILES_DISK_BUCKET"):
        load(FILES_DISK="s3")
