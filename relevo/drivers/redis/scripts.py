"""Runs the Lua scripts in `lua/`, one for each verb.

A script is called by its digest. A server that has forgotten it gets its text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from redis import ConnectionPool, Redis
from redis.exceptions import NoScriptError, ResponseError

from relevo.drivers.redis.connection import IdleConnections, translated
from relevo.drivers.redis.keys import Keys, lua_prelude
from relevo.errors import DriverUnavailableError


@dataclass(frozen=True, slots=True)
class Library:
    """The scripts of another package that works on the same jobs.

    Their text begins with our keys and our `common.lua`. Then come `prelude`, which is Lua that
    names the package's own keys, and the package's `lua/common.lua`.
    """

    package: str
    prelude: str


class Scripts:
    """The scripts on one server. They go by `clock`, or without one by Redis's own time."""

    def __init__(
        self,
        pool: ConnectionPool,
        keys: Keys,
        clock: Callable[[], float] | None,
        library: Library | None = None,
    ) -> None:
        self._pool, self._root, self._clock, self._library = pool, keys.root, clock, library
        self._client = Redis(connection_pool=pool)
        self._idle = IdleConnections(pool)

    def run(self, name: str, *arguments: str | float | bytes) -> Any:
        """Run `lua/<name>.lua` once.

        Raises `DriverUnavailableError` when Redis may or may not have carried it out.
        """
        return self.guarded(self._run, name, arguments)

    def run_all(self, name: str, portions: Sequence[Sequence[str | float | bytes]]) -> list[Any]:
        """Run a script with each portion of arguments: all or none, with no command in between."""
        return self.guarded(self._run_all, name, portions)

    def guarded(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Make a call, and translate its errors. A lost connection closes the idle ones, too.

        These end where the lost one did: at a server that is gone, at a replica that was the
        master, or (Sentinel's connections, interrupted by a signal) with the answer to another call
        waiting.
        """
        try:
            with translated():
                return call(*arguments)
        except BaseException as error:
            if isinstance(error, DriverUnavailableError) or not isinstance(
                error.__cause__, ResponseError
            ):
                self._pool.disconnect(inuse_connections=False)
                self._idle.disconnect()
            raise

    def _run(self, name: str, arguments: Sequence[str | float | bytes]) -> Any:
        given = (1, self._root, self._now(), *arguments)
        # Without redis-py's `execute_command` and pool, which measure and count for as long as the
        # rest takes: a put's CPU fell from 102 to 50 us.
        connection = self._idle.take()
        try:
            try:
                return _ask(connection, b"EVALSHA", digest(name, self._library), *given)
            # After a SCRIPT FLUSH, a restart or a failover. EVAL, because another FLUSH could
            # follow a SCRIPT LOAD.
            except NoScriptError:
                return _ask(connection, b"EVAL", source(name, self._library), *given)
        finally:
            self._idle.put_back(connection)

    def _run_all(self, name: str, portions: Sequence[Sequence[str | float | bytes]]) -> list[Any]:
        with self._client.pipeline(transaction=True) as pipeline:
            for arguments in portions:  # by its text: inside MULTI no script may be unknown
                pipeline.eval(source(name, self._library), 1, self._root, self._now(), *arguments)
            answers: list[Any] = pipeline.execute()
        return answers

    def begin(self) -> tuple[str, str]:
        """The first two arguments of a script: the prefix of the keys, and the clock's time."""
        return self._root, self._now()

    def _now(self) -> str:
        return "" if self._clock is None else repr(self._clock())


def _ask(connection: Any, *command: str | float | bytes) -> Any:
    """Send a command and read its answer. A connection that fails on the way closes itself."""
    connection.send_packed_command(connection.pack_command(*command))
    return connection.read_response()


# Scripts of which each microsecond counts: they get their keys as arguments, and no common part.
_BARE = frozenset({"put_one"})


@cache
def source(name: str, library: Library | None = None) -> str:
    """The whole text of a script: the keys, the common part, and its own part."""
    if name in _BARE:
        return _read(name)
    ours = ("local root = KEYS[1]", lua_prelude(), _read("common"))
    if library is None:
        return "\n".join((*ours, _read(name)))
    return "\n".join(
        (*ours, library.prelude, _read("common", library.package), _read(name, library.package))
    )


@cache
def digest(name: str, library: Library | None = None) -> str:
    """The digest by which Redis knows a script."""
    # SHA-1 is Redis's choice.
    return hashlib.sha1(source(name, library).encode()).hexdigest()  # noqa: S324


def pairs(leases: Sequence[Any]) -> list[str]:
    """Leases as scripts take them: number, token, number, token …"""
    return [text for lease in leases for text in (str(lease.key), lease.token)]


def number(value: float) -> str:
    """A number as Lua reads it, also one whose class has a `repr` of its own."""
    return repr(float(value))


def _read(name: str, package: str = str(__package__)) -> str:
    return files(package).joinpath("lua", f"{name}.lua").read_text("utf-8")
