"""Every Redis key, in one place; the Lua scripts get theirs from here, too (`lua_prelude`).

| key | type | holds |
|---|---|---|
| `sequence` | counter | a job's number: sixteen digits, so that the order of the texts is the order of putting |
| `jobs` | hash | number -> its record (msgpack); common.lua has its fields |
| `payloads` | hash | number -> payload, apart from the record, because it is seldom written and the record often |
| `ids` | hash | job id -> its numbers, comma-joined (two living jobs may have one id: a Celery retry) |
| `unique` | hash | unique key -> number of the living job that has it |
| `queues` | set | names of queues that may hold jobs |
| `paused` | hash | queue -> end of its pause, or an empty text |
| `suspended` | hash | what is suspended -> its end, or an empty text |
| `parked:<what>` | sorted set | numbers of the jobs that are parked for it by the instant to which they were delayed |
| `swept` | text | when the leases of all queues were last looked through for ended ones |
| `pending:<queue>:<priority>` | sorted set | numbers by the instant since which the job could have run, or its turn |
| `turns:<queue>:<priority>` | hash | `k` and a fair key -> the end of its last turn; `last`: that of the last one |
| `delayed:<queue>` | sorted set | numbers by the instant before which the job must not run |
| `reserved:<queue>` | sorted set | numbers by the end of the lease |
| `bell:<queue>` | list | a token for each job just put, CAP at most: one token wakes one idle worker |
| `put:<thread>` | text | a publishing thread's last put (msgpack: its number, its answer), for two minutes |
| `boxes` | hash | mailbox -> when it goes and its ttl |
| `box:<mailbox>` | set | its bindings: JSON of [exchange, pattern] |
| `bindings:<exchange>` | set | who is bound to it: JSON of [mailbox, pattern] |
| `mail:<mailbox>` | list | what it has not read |
| `ring:<mailbox>` | list | a token when something came |

All begin with the connection's `global_keyprefix` and `relevo:`. Messages that a plain Celery
client pushed lie where kombu puts them: a list named like the queue, and one more for each of
kombu's priority steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ROOT = "relevo:"
PLAIN = (
    "sequence",
    "jobs",
    "payloads",
    "ids",
    "unique",
    "queues",
    "paused",
    "suspended",
    "swept",
    "boxes",
)
NAMED = (
    "pending",
    "delayed",
    "reserved",
    "turns",
    "parked",
    "bell",
    "put",
    "box",
    "bindings",
    "mail",
    "ring",
)
# kombu's priority steps, and what it puts between a queue's name and the step: its transport
# options may say otherwise.
KOMBU_STEPS, KOMBU_SEPARATOR = (0, 3, 6, 9), "\x06\x16"


@dataclass(frozen=True)
class Keys:
    """The keys under one prefix, and where kombu's are."""

    prefix: str = ""
    steps: tuple[int, ...] = KOMBU_STEPS
    separator: str = KOMBU_SEPARATOR

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Keys:
        """The keys that kombu's transport options ask for."""
        steps = tuple(options.get("priority_steps") or KOMBU_STEPS)
        return cls(
            options.get("global_keyprefix") or "", steps, options.get("sep") or KOMBU_SEPARATOR
        )

    @property
    def root(self) -> str:
        """What all of ours begin with."""
        return f"{self.prefix}{ROOT}"

    def plain(self, name: str) -> str:
        """The key called `name`, one of PLAIN."""
        return f"{self.root}{name}"

    def named(self, kind: str, name: str) -> str:
        """The key of `kind`, one of NAMED, for a queue, mailbox or exchange."""
        return f"{self.root}{kind}:{name}"

    def kombu(self, queue: str) -> list[str]:
        """The lists in which a plain Celery client leaves messages for `queue`, most urgent first."""
        return [
            f"{self.prefix}{queue}{self.separator}{step}" if step else f"{self.prefix}{queue}"
            for step in self.steps
        ]

    def kombu_with_count(self, queue: str) -> list[str | int]:
        """The same as scripts take them: how many, then each."""
        lists = self.kombu(queue)
        return [len(lists), *lists]


def lua_prelude() -> str:
    """Lua functions that name the same keys: `jobs_key`, `pending_key(queue, priority)` and so on."""
    return "\n".join((*_plain(PLAIN), *_named(NAMED)))


def _plain(names: Iterable[str]) -> Iterable[str]:
    return (f"local {name}_key = root .. '{name}'" for name in names)


def _named(kinds: Iterable[str]) -> Iterable[str]:
    return (
        f"local function {kind}_key(name, part) "
        f"return root .. '{kind}:' .. name .. (part and (':' .. part) or '') end"
        for kind in kinds
    )
