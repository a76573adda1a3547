"""Connections that a project names itself, and changes of the ready-made ones.

    QUEUE_CONNECTIONS={"reports": {"url": "redis://r2/0", "queue": "reports", "lease": 600},
                       "redis-long": {"lease": 900}}
    load(connections={"reports": {...}})              the same in code; it goes before the setting

Without a url a connection is another queue, or another lease, of the chosen broker. An error shows
no url, because it may hold a password.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from relevo.config import broker_urls
from relevo.config.environment import Environment
from relevo.errors import SettingsError, did_you_mean

SETTING = "QUEUE_CONNECTIONS"
_KEYS = ("url", "queue", "lease", "master")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True)
class OwnConnection:
    """What a project says about one connection; None where it says nothing."""

    name: str
    #: The kind of its broker, by its url.
    driver: str | None = None
    url: str | None = field(default=None, repr=False)
    queue: str | None = None
    lease: float | None = None
    #: The master's name at the Sentinels of the url.
    master: str | None = None


def read(
    env: Environment, given: Mapping[str, Mapping[str, Any]] | None, ready_made: Collection[str]
) -> dict[str, OwnConnection]:
    """The connections of the setting, and over them those that were given in code.

    Raises SettingsError.
    """
    found: dict[str, Any] = {**_from_setting(env.text(SETTING)), **(given or {})}
    return {name: _build(name, said, ready_made) for name, said in found.items()}


def _from_setting(text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SettingsError(
            f'expected {SETTING} to be a JSON object like {{"reports": {{"url": "redis://r2/0"}}}}'
            " (not shown: it may hold a password)"
        )
    return found


def _build(name: Any, said: Any, ready_made: Collection[str]) -> OwnConnection:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingsError(
            "expected the name of a connection to be letters, digits, '.', '_' and '-', got"
            f" {name!r:.60}"
        )
    where = f"connection {name!r}"
    if not isinstance(said, Mapping):
        raise SettingsError(f"expected {where} to be an object with {', '.join(_KEYS)}")
    for key in said:
        if key not in _KEYS:
            hint = did_you_mean(str(key), _KEYS)
            raise SettingsError(
                f"expected the keys of {where} to be {', '.join(_KEYS)}, got {key!r:.60}{hint}"
            )
    if name in ready_made and (name == "sync" or "url" in said or "master" in said):
        raise SettingsError(
            f"expected another name than {name!r}: of that connection only queue and lease can be"
            " changed" + (", and of 'sync' nothing" if name == "sync" else "")
        )
    driver, url = _broker(where, said.get("url"))
    return OwnConnection(
        name,
        driver,
        url,
        _queue(where, said.get("queue")),
        _lease(where, said.get("lease")),
        _master(where, url, said.get("master")),
    )


def _broker(where: str, given: Any) -> tuple[str | None, str | None]:
    if given is None:
        return None, None
    return broker_urls.any_broker(f"the url of {where}", given if isinstance(given, str) else "")


def _queue(where: str, given: Any) -> str | None:
    if given is not None and not (isinstance(given, str) and given.strip()):
        raise SettingsError(f"expected the queue of {where} to be its name, got {given!r:.60}")
    return given


def _lease(where: str, given: Any) -> float | None:
    if given is None:
        return None
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not is_number or not 0 < given < math.inf:
        raise SettingsError(
            f"expected the lease of {where} to be a positive number of seconds, got {given!r:.60}"
        )
    return float(given)


def _master(where: str, url: str | None, given: Any) -> str | None:
    is_sentinel = url is not None and url.startswith("sentinel://")
    if is_sentinel and not (isinstance(given, str) and given):
        raise SettingsError(
            f"expected the master of {where} to be the master's name at the Sentinels, got"
            f" {given!r:.60}"
        )
    if given is not None and not is_sentinel:
        raise SettingsError(f"expected a sentinel:// url beside the master of {where}")
    return given
