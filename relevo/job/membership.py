"""To which batches and which chord a job belongs, and what its end means to them.

A batch stands in a header of the message, beside the baton, so that a retry keeps it: a list of
`[batch, member, each]`. A chain is one member: its last link completes it, any link fails it. With
`each` every link is a member by itself. The header comes from outside: a malformed place is left
out.

A chord stands in the message where Celery puts it: the group's id in a header, the chord's body in
each job's embed (the part of a message's body beside the arguments). A body with CHORD_OPTION
(`relevo/batches/chord.py` sets it) is counted by the recorder, each job by its id, so that a
redelivered job counts once. A chord without it (of an app without a store, or of another program)
is left to Celery.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from relevo import clock
from relevo.store import batch_counts
from relevo.store.batches import MemberEnd
from relevo.store.schedules import RunEnd

MEMBER_HEADER = "relevo_member"
#: The header of a job that came through the outbox: its end is stored as a receipt.
OUTBOX_HEADER = "relevo_sent"
#: The header of a scheduled job, the name of its entry: its end is stored with the entry's run.
ENTRY_HEADER = "schedule_entry"
#: The header of a scheduled job that says when it was due.
DUE_HEADER = "schedule_due"
#: The task that opens a batch as a link of a chain. The link ends when the batch does.
OPEN_BATCH_TASK = "relevo.open_batch"
#: The task that ends a chord. Its second argument is the chord's body, which never runs without it.
CHORD_TASK = "relevo.chord"
#: The option of a chord's body whose members we count.
CHORD_OPTION = "relevo_chord"


@dataclass(frozen=True, slots=True)
class Membership:
    """A place in a batch. `each`: the job counts by itself, even if links follow it."""

    batch: str
    member: int
    each: bool = False

    def header(self) -> list[Any]:
        """The place as JSON."""
        return [self.batch, self.member, *([1] if self.each else [])]


def read(headers: Mapping[str, Any] | None) -> tuple[Membership, ...]:
    """The memberships of a message with these headers."""
    sent = (headers or {}).get(MEMBER_HEADER)
    if not isinstance(sent, list):
        return ()
    found = []
    for place in sent:
        with suppress(TypeError, ValueError):
            batch, member, *each = place
            if isinstance(batch, str) and isinstance(member, int):
                found.append(Membership(batch, member, bool(each and each[0])))
    return tuple(found)


def with_places(headers: Mapping[str, Any] | None, *places: Membership) -> dict[str, Any]:
    """Headers with these places added to those that are there."""
    kept = {} if headers is None else dict(headers)
    return {**kept, MEMBER_HEADER: [place.header() for place in (*read(kept), *places)]}


def member_ends(
    headers: Mapping[str, Any], uuid: str, state: str, chain: Sequence[Any] | None
) -> tuple[MemberEnd, ...]:
    """What the end of a job means to its batches. `chain`: the links that follow it."""
    return tuple(
        MemberEnd(place.batch, place.member, state, uuid)
        for place in read(headers)
        if place.each or not chain or state != batch_counts.COMPLETED
    )


def unreachable_ends(signature: Any, state: str) -> Iterator[MemberEnd]:
    """The ends of all places of a signature that will never run, in `state`.

    Of a chain the first link's only: the other links have the same places. Of a chord its body's.
    """
    yield from unreachable_chord_ends(signature, state)
    yield from _places(signature, state)


def _places(signature: Any, state: str) -> Iterator[MemberEnd]:
    if not isinstance(signature, Mapping):
        return
    options, kwargs, kind = (
        signature.get("options") or {},
        signature.get("kwargs") or {},
        signature.get("subtask_type"),
    )
    yield from member_ends(options.get("headers") or {}, str(options.get("task_id")), state, None)
    tasks = list(kwargs.get("tasks") or ())
    inner = {"chord": [kwargs.get("body")], "group": tasks, "chain": tasks[:1]}.get(str(kind), [])
    for each in inner:
        yield from _places(each, state)


def ends_of_request(request: Any, state: str) -> tuple[MemberEnd, ...]:
    """What the end of a request's job (in the main process) means to its batches and chords."""
    headers = request.request_dict
    if (
        state == batch_counts.COMPLETED
        and MEMBER_HEADER not in headers
        and not headers.get("group")
    ):
        return ()  # nearly every job: spare the reading of its body
    return ends_of_message(headers, _body_of(request), str(request.id), state)


def ends_of_message(
    headers: Mapping[str, Any], body: Sequence[Any], uuid: str, state: str
) -> tuple[MemberEnd, ...]:
    """The same, by the headers and the body (args, kwargs, embed) of a message."""
    (args, _, embed), task, done = body, headers.get("task"), state == batch_counts.COMPLETED
    own = (
        ()
        if task == OPEN_BATCH_TASK and done
        else member_ends(headers, uuid, state, embed.get("chain"))
    )
    waiting = (
        args[1:2] if task == CHORD_TASK and not done and isinstance(args, (list, tuple)) else ()
    )
    gone = (end for each in waiting for end in unreachable_ends(each, state))
    return (*own, *chord_ends(headers, embed, uuid, state), *gone)


def embedded(request: Any) -> Mapping[str, Any]:
    """The embed of a request's message: callbacks, chain, chord."""
    embed: Mapping[str, Any] = _body_of(request)[2]
    return embed


def _body_of(request: Any) -> Sequence[Any]:
    with suppress(Exception):  # an unreadable body counts as empty
        args, kwargs, embed = request._payload  # noqa: SLF001  Celery offers no other access
        return args, kwargs, embed if isinstance(embed, Mapping) else {}
    return (), {}, {}


def batch_ids(headers: Mapping[str, Any], embed: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of a job's batches and of its chord."""
    chord = chord_id(headers, embed)
    return (*(place.batch for place in read(headers)), *((chord,) if chord else ()))


def run_end(headers: Mapping[str, Any], uuid: str, state: str) -> RunEnd | None:
    """The end of a schedule entry's run; None for a job that is not scheduled."""
    return RunEnd(str(uuid), str(state), clock.now()) if ENTRY_HEADER in headers else None


def run_key(request: Any) -> str:
    """A key of a running job: the same at each delivery, another one for a job that replaces it."""
    return f"{request.id}:{request.parent_id or ''}:{request.get('replaced_task_nesting') or 0}"


def is_awaited(options: Mapping[str, Any]) -> bool:
    """Whether a batch or a chord waits for a job dispatched with these options of `apply_async`."""
    return bool(read(options.get("headers"))) or is_awaited_by_chord(options)


def outbox_id(request: Any) -> str | None:
    """The id of a job that came through the outbox; None for any other."""
    return str(request.id) if request.request_dict.get(OUTBOX_HEADER) else None


def is_marked(body: Any) -> bool:
    """Whether this body of a chord, as a message has it, is one whose members we count."""
    options = body.get("options") if isinstance(body, Mapping) else None
    return isinstance(options, Mapping) and bool(options.get(CHORD_OPTION))


def chord_id(headers: Mapping[str, Any], embed: Mapping[str, Any]) -> str | None:
    """The id of the chord that a job with this message counts for."""
    group = headers.get("group")
    return group if isinstance(group, str) and is_marked(embed.get("chord")) else None


def chord_ends(
    headers: Mapping[str, Any], embed: Mapping[str, Any], uuid: str, state: str
) -> tuple[MemberEnd, ...]:
    """What the end of a job means to its chord, and to the chords of links that now never run."""
    found = []
    if (chord := chord_id(headers, embed)) is not None:
        found.append(MemberEnd(chord, _index(headers), state, uuid))
    if state != batch_counts.COMPLETED:
        for link in embed.get("chain") or ():
            found += unreachable_chord_ends(link, state)
    return tuple(found)


def unreachable_chord_ends(signature: Any, state: str) -> Iterator[MemberEnd]:
    """The ends, in `state`, of the chord members in a signature that will never run."""
    if not isinstance(signature, Mapping):
        return
    options = signature.get("options") or {}
    group, uuid = options.get("group_id"), options.get("task_id")
    kwargs, kind = signature.get("kwargs") or {}, signature.get("subtask_type")
    if (
        kind is None
        and is_marked(options.get("chord"))
        and isinstance(group, str)
        and isinstance(uuid, str)
    ):
        yield MemberEnd(group, _index(options), state, uuid)
    inner = (
        [kwargs.get("body")]
        if kind == "chord"
        else kwargs.get("tasks")
        if kind in ("group", "chain")
        else ()
    )
    for each in (*(inner or ()), *(options.get("chain") or ())):
        yield from unreachable_chord_ends(each, state)


def is_awaited_by_chord(options: Mapping[str, Any]) -> bool:
    """Whether a chord waits for a job dispatched with these options, or for a link behind it."""
    links = options.get("chain") or ()
    return is_marked(options.get("chord")) or any(
        True for link in links for _ in unreachable_chord_ends(link, batch_counts.CANCELLED)
    )


def _index(options: Mapping[str, Any]) -> int:
    index = options.get("group_index")
    return index if isinstance(index, int) and index >= 0 else 0
