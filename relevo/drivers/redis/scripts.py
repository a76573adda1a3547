"""The Lua scripts in `lua/`, one a verb, run by their digest; a server that has forgotten them is
told again.
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

from relevo.drivers.redis.connection import translated
from relevo.drivers.redis.keys import Keys, lua_prelude
from relevo.errors import DriverUnavailableError


@dataclass(frozen=True, slots=True)
class Library:
    """Scripts of another package that work on the same jobs: they come behind our keys and our
    `common.lua`.

    `prelude` is Lua that names its own keys; the package's `lua/common.lua` follows it.
    """

    package: str
    prelude: str


class Scripts:
    """The scripts on one server. `clock` gives the time to all of them; without it they take
    Redis's own.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        keys: Keys,
        clock: Callable[[], float] | None,
        library: Library | None = None,
    ) -> None:
        self._pool, self._root, self._clock, self._library = pool, keys.root, clock, library
        self._client = Redis(connection_pool=pool)

    def run(self, name: str, *arguments: str | float | bytes) -> Any:
        """Run `lua/<name>.lua` once. Raises `DriverUnavailableError` when it isn't known what
        became of it.
        """
        return self.guarded(self._run, name, arguments)

    def run_all(self, name: str, portions: Sequence[Sequence[str | float | bytes]]) -> list[Any]:
        """Run a script with each of these arguments, all or none, and nobody's command between
        them.
        """
        return self.guarded(self._run_all, name, portions)

    def guarded(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Do it, with errors in our words; whoever has lost a connection does not trust the idle
        ones either.

        They end where the lost one did: at a server that is gone, at a replica that was the master,
        or (Sentinel's connections, interrupted by a signal) with an answer waiting that is not
        theirs.
        """
        try:
            with translated():
                return call(*arguments)
        except BaseException as error:
            if isinstance(error, DriverUnavailableError) or not isinstance(
                error.__cause__, ResponseError
            ):
                self._pool.disconnect(inuse_connections=False)
            raise

    def _run(self, name: str, arguments: Sequence[str | float | bytes]) -> Any:
        given = (self._root, self._now(), *arguments)
        try:
            return self._client.evalsha(digest(name, self._library), 1, *given)
        except (
            NoScriptError
        ):  # SCRIPT FLUSH, a restart, a failover; EVAL, as another FLUSH may follow a SCRIPT LOAD
            return self._client.eval(source(name, self._library), 1, *given)

    def _run_all(self, name: str, portions: Sequence[Sequence[str | float | bytes]]) -> list[Any]:
        with self._client.pipeline(transaction=True) as pipeline:
            for arguments in portions:  # by its text: none may be unknown
                pipeline.eval(source(name, self._library), 1, self._root, self._now(), *arguments)
            answers: list[Any] = pipeline.execute()
        return answers

    def _now(self) -> str:
        return "" if self._clock is None else repr(self._clock())


@cache
def source(name: str, library: Library | None = None) -> str:
    """The whole text of a script: the keys, what all begin with, and its own."""
    ours = ("local root = KEYS[1]", lua_prelude(), _read("common"))
    if library is None:
        return "\n".join((*ours, _read(name)))
    return "\n".join(
        (*ours, library.prelude, _read("common", library.package), _read(name, library.package))
    )


@cache
def digest(name: str, library: Library | None = None) -> str:
    """What Redis calls a script."""
    # Redis's choice, and no secret
    return hashlib.sha1(source(name, library).encode()).hexdigest()  # noqa: S324


def pairs(leases: Sequence[Any]) -> list[str]:
    """Leases as scripts take them: number, token, number, token …"""
    return [text for lease in leases for text in (str(lease.key), lease.token)]


def number(value: float) -> str:
    """A number as Lua reads it, whatever its class calls itself."""
    return repr(float(value))


def _read(name: str, package: str = str(__package__)) -> str:
    return files(package).joinpath("lua", f"{name}.lua").read_text("utf-8")
