"""The Lua scripts in `lua/`, one a verb, run by their digest; a server that has forgotten them is told again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.commands.core import Script

from relevo.drivers.redis.keys import Keys, lua_prelude


class Scripts:
    """The scripts on one server. `clock` gives the time to all of them; without it they take Redis's own."""

    def __init__(self, client: Redis, keys: Keys, clock: Callable[[], float] | None) -> None:
        self._client, self._root, self._clock = client, keys.root, clock
        self._scripts: dict[str, Script] = {}

    def run(self, name: str, *arguments: str | float) -> Any:
        """Run `lua/<name>.lua`. After SCRIPT FLUSH or a failover redis-py loads it again (NOSCRIPT) and goes on."""
        if name not in self._scripts:
            self._scripts[name] = Script(self._client, source(name))
        now = "" if self._clock is None else repr(self._clock())
        return self._scripts[name](keys=[self._root], args=[now, *arguments])


@cache
def source(name: str) -> bytes:
    """The whole text of a script: the keys, what all begin with, and its own."""
    return "\n".join(("local root = KEYS[1]", lua_prelude(), _read("common"), _read(name))).encode()


def pairs(leases: Sequence[Any]) -> list[str]:
    """Leases as scripts take them: number, token, number, token …"""
    return [text for lease in leases for text in (str(lease.key), lease.token)]


def _read(name: str) -> str:
    return files(__package__).joinpath("lua", f"{name}.lua").read_text("utf-8")
