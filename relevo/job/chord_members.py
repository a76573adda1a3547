"""Which chord a job is a member of, by what Celery itself puts into its message, and what its end means to the chord.

The message of a header's job names the group and carries the chord's body. A body with our mark (`chord.py` sets it) is
counted by us: in the recorder's transaction, each job by its id, so a redelivery counts once. A chord without the mark
(of an app without a store, or of another program) is Celery's own business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from relevo.store import tally
from relevo.store.batches import MemberEnd

#: The option of a chord's body that says: its members are counted by us.
MARK = "relevo_chord"


def is_marked(body: Any) -> bool:
    """Whether this body of a chord, as it stands in a message, is one whose members we count."""
    options = body.get("options") if isinstance(body, Mapping) else None
    return isinstance(options, Mapping) and bool(options.get(MARK))


def chord_of(headers: Mapping[str, Any], embed: Mapping[str, Any]) -> str | None:
    """The chord that a job with this message counts for."""
    group = headers.get("group")
    return group if isinstance(group, str) and is_marked(embed.get("chord")) else None


def ends(headers: Mapping[str, Any], embed: Mapping[str, Any], uuid: str, state: str) -> tuple[MemberEnd, ...]:
    """What the end of a job says about chords: about its own, and about those of the links that now never run."""
    found = []
    if (chord := chord_of(headers, embed)) is not None:
        found.append(MemberEnd(chord, _index(headers), state, uuid))
    if state != tally.COMPLETED:
        for link in embed.get("chain") or ():
            found += never(link, state)
    return tuple(found)


def never(signature: Any, state: str) -> Iterator[MemberEnd]:
    """The members of chords that will never run, since this signature won't: they end like what it waited for."""
    if not isinstance(signature, Mapping):
        return
    options = signature.get("options") or {}
    group, uuid = options.get("group_id"), options.get("task_id")
    kwargs, kind = signature.get("kwargs") or {}, signature.get("subtask_type")
    if kind is None and is_marked(options.get("chord")) and isinstance(group, str) and isinstance(uuid, str):
        yield MemberEnd(group, _index(options), state, uuid)
    inner = [kwargs.get("body")] if kind == "chord" else kwargs.get("tasks") if kind in ("group", "chain") else ()
    for each in (*(inner or ()), *(options.get("chain") or ())):
        yield from never(each, state)


def is_awaited(options: Mapping[str, Any]) -> bool:
    """Whether a chord waits for a job that is dispatched with these options, or for a link behind it."""
    links = options.get("chain") or ()
    return is_marked(options.get("chord")) or any(True for link in links for _ in never(link, tally.CANCELLED))


def _index(said: Mapping[str, Any]) -> int:
    index = said.get("group_index")
    return index if isinstance(index, int) and index >= 0 else 0
