"""Every Redis key of the driver. The Lua scripts get their keys from here, too (`lua_prelude`).

| key | type | holds |
|---|---|---|
| `sequence` | counter | the last number of a job: 16 digits, so that they sort as texts |
| `jobs` | hash | number -> the job's record (msgpack); common.lua has the fields |
| `payloads` | hash | number -> payload: apart from the record, which is written more often |
| `ids` | hash | job id -> its numbers, with commas (a Celery retry has the id of its job) |
| `unique` | hash | unique key -> number of the living job that has it |
| `queues` | set | names of queues that may hold jobs |
| `lease_ends` | sorted set | queues with leases, by an instant before which none of these ends |
| `paused` | hash | queue -> end of its pause, or an empty text |
| `suspended` | hash | target -> end of its suspension, or an empty text |
| `parked:<target>` | sorted set | numbers of parked jobs by the instant to which they wait |
| `swept` | text | when ended leases were last looked for by `lease_ends` |
| `pending:<queue>:<priority>` | sorted set | numbers by turn, or by the instant they came due |
| `turns:<queue>:<priority>` | hash | `k` and a fair key -> its last turn's end; `last`: of all |
| `delayed:<queue>` | sorted set | numbers by the instant before which the job must not run |
| `reserved:<queue>` | sorted set | numbers by the end of the lease |
| `bell:<queue>` | list | a token for each new job, BELL_CAP at most; it wakes one worker |
| `put:<thread>` | text | a thread's last put (msgpack: its number, its answer), for two minutes |
| `boxes` | hash | mailbox -> the instant at which it goes away, and its ttl (msgpack) |
| `box:<mailbox>` | set | its bindings: JSON of [exchange, pattern] |
| `bindings:<exchange>` | set | the mailboxes bound to it: JSON of [mailbox, pattern] |
| `mail:<mailbox>` | list | unread messages |
| `ring:<mailbox>` | list | a token while there is new mail |

All keys begin with the connection's `global_keyprefix` and `relevo:`. The messages of a plain
Celery client are where kombu puts them: in a list named like the queue, and in one more for each of
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
    "lease_ends",
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
# kombu's defaults of its transport options `priority_steps` and `sep`; `sep` stands between a
# queue's name and the step.
KOMBU_STEPS, KOMBU_SEPARATOR = (0, 3, 6, 9), "\x06\x16"


@dataclass(frozen=True)
class Keys:
    """The keys under one prefix, and those of kombu's lists."""

    prefix: str = ""
    steps: tuple[int, ...] = KOMBU_STEPS
    separator: str = KOMBU_SEPARATOR

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Keys:
        """The keys for kombu's transport options."""
        steps = tuple(options.get("priority_steps") or KOMBU_STEPS)
        return cls(
            options.get("global_keyprefix") or "", steps, options.get("sep") or KOMBU_SEPARATOR
        )

    @property
    def root(self) -> str:
        """The beginning of all our keys."""
        return f"{self.prefix}{ROOT}"

    def plain(self, name: str) -> str:
        """The key called `name`, one of PLAIN."""
        return f"{self.root}{name}"

    def named(self, kind: str, name: str) -> str:
        """The key of `kind`, one of NAMED, for a queue, mailbox, exchange or target."""
        return f"{self.root}{kind}:{name}"

    def for_put_one(self, thread: str, queue: str, priority: int) -> tuple[str, ...]:
        """The keys that `put_one.lua` gets, in its order."""
        place = f"{queue}:{priority}"
        return (
            self.named("put", f"{thread}.0"),
            *map(self.plain, ("jobs", "payloads", "ids", "sequence", "queues")),
            self.named("turns", place),
            self.named("pending", place),
            self.named("bell", queue),
        )

    def kombu(self, queue: str) -> list[str]:
        """The lists in which plain Celery clients leave messages for `queue`, most urgent first."""
        return [
            f"{self.prefix}{queue}{self.separator}{step}" if step else f"{self.prefix}{queue}"
            for step in self.steps
        ]

    def kombu_with_count(self, queue: str) -> list[str | int]:
        """The number of those lists, then the lists, as scripts take them."""
        lists = self.kombu(queue)
        return [len(lists), *lists]


def lua_prelude() -> str:
    """Lua names of the same keys: `jobs_key`, `pending_key(queue, priority)` and so on."""
    return "\n".join((*_plain(PLAIN), *_named(NAMED)))


def _plain(names: Iterable[str]) -> Iterable[str]:
    return (f"local {name}_key = root .. '{name}'" for name in names)


def _named(kinds: Iterable[str]) -> Iterable[str]:
    return (
        f"local function {kind}_key(name, part) "
        f"return root .. '{kind}:' .. name .. (part and (':' .. part) or '') end"
        for kind in kinds
    )
