"""To which batches and which chord a job belongs, and what its end means to them.

A batch stands in a header of the message, beside the baton, so that a retry keeps it: a list of
`[batch, member, each]`. A chain is one member: its last link completes it, any link fails it. With
`each` set every link counts for itself. The header comes from outside, so it is read forgivingly.

A chord stands in the message as Celery puts it there: the message of a header's job names the group
and carries the chord's body. A body with our mark (`chord.py` sets it) is counted in the recorder's
transaction, each job by its id, so a redelivery counts once. A chord without the mark (of an app
without a store, or of another program) is Celery's own business.
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
#: The header of a job that came through the outbox: its end is a receipt.
OUTBOX_HEADER = "relevo_sent"
#: The header of a job by the clock, the name of its entry: its end is noted with its run.
ENTRY_HEADER = "schedule_entry"
#: The header that says when it was due, beside it.
DUE_HEADER = "schedule_due"
#: The task that opens a batch as the link of a chain: the link is done when the batch is.
OPEN_BATCH_TASK = "relevo.open_batch"
#: The task that ends a chord: if its job goes, the chord's body, its second argument, never comes.
CHORD_TASK = "relevo.chord"
#: The option of a chord's body that says: its members are counted by us.
CHORD_OPTION = "relevo_chord"


@dataclass(frozen=True, slots=True)
class Membership:
    """A place in a batch. `each`: the job counts for itself, also when it is a link with others to
    follow.
    """

    batch: str
    member: int
    each: bool = False

    def header(self) -> list[Any]:
        """As it stands in the message."""
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
    """Headers of a job that gets these places beside those it has."""
    kept = {} if headers is None else dict(headers)
    return {**kept, MEMBER_HEADER: [place.header() for place in (*read(kept), *places)]}


def member_ends(
    headers: Mapping[str, Any], uuid: str, state: str, chain: Sequence[Any] | None
) -> tuple[MemberEnd, ...]:
    """What the end of a job, with `chain` still to come, says about its batches."""
    return tuple(
        MemberEnd(place.batch, place.member, state, uuid)
        for place in read(headers)
        if place.each or not chain or state != batch_counts.COMPLETED
    )


def unreachable_ends(signature: Any, state: str) -> Iterator[MemberEnd]:
    """What it means to batches and chords that this signature will never run: its places end like
    what it waited for.

    Of a chain those of the first link: the others would have come after it. Of a chord those of its
    body.
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
    """What the end of a request's job (of the worker's main process) says about its batches and
    chords.
    """
    headers = request.request_dict
    if (
        state == batch_counts.COMPLETED
        and MEMBER_HEADER not in headers
        and not headers.get("group")
    ):
        return ()  # nearly every job; the body isn't read for nothing
    return ends_of_message(headers, _body_of(request), str(request.id), state)


def ends_of_message(
    headers: Mapping[str, Any], body: Sequence[Any], uuid: str, state: str
) -> tuple[MemberEnd, ...]:
    """The same of a message, by its headers and its body: arguments, and what lies beside them."""
    (args, _, embed), task, done = body, headers.get("task"), state == batch_counts.COMPLETED
    mine = (
        ()
        if task == OPEN_BATCH_TASK and done
        else member_ends(headers, uuid, state, embed.get("chain"))
    )
    waiting = (
        args[1:2] if task == CHORD_TASK and not done and isinstance(args, (list, tuple)) else ()
    )
    gone = (end for each in waiting for end in unreachable_ends(each, state))
    return (*mine, *chord_ends(headers, embed, uuid, state), *gone)


def embedded(request: Any) -> Mapping[str, Any]:
    """What lies beside the arguments in the body of a request's message: callbacks, chain, chord."""
    embed: Mapping[str, Any] = _body_of(request)[2]
    return embed


def _body_of(request: Any) -> Sequence[Any]:
    with suppress(Exception):  # a body that can't be read has nothing in it
        args, kwargs, embed = request._payload  # noqa: SLF001  Celery's own way
        return args, kwargs, embed if isinstance(embed, Mapping) else {}
    return (), {}, {}


def batch_ids(headers: Mapping[str, Any], embed: Mapping[str, Any]) -> tuple[str, ...]:
    """The batches and the chord that a job belongs to."""
    chord = chord_of(headers, embed)
    return (*(place.batch for place in read(headers)), *((chord,) if chord else ()))


def run_end(headers: Mapping[str, Any], uuid: str, state: str) -> RunEnd | None:
    """What the end of a job says about the run of an entry of the schedule, if it is one."""
    return RunEnd(str(uuid), str(state), clock.now()) if ENTRY_HEADER in headers else None


def run_key(request: Any) -> str:
    """A name for a running job that is the same at each delivery, and another for what replaces it
    under its id.
    """
    return f"{request.id}:{request.parent_id or ''}:{request.get('replaced_task_nesting') or 0}"


def is_awaited(options: Mapping[str, Any]) -> bool:
    """Whether a batch or a chord waits for a job that is dispatched with these options of
    `apply_async`.
    """
    return bool(read(options.get("headers"))) or is_awaited_by_chord(options)


def outbox_id(request: Any) -> str | None:
    """The id of a job that came through the outbox."""
    return str(request.id) if request.request_dict.get(OUTBOX_HEADER) else None


def is_marked(body: Any) -> bool:
    """Whether this body of a chord, as it stands in a message, is one whose members we count."""
    options = body.get("options") if isinstance(body, Mapping) else None
    return isinstance(options, Mapping) and bool(options.get(CHORD_OPTION))


def chord_of(headers: Mapping[str, Any], embed: Mapping[str, Any]) -> str | None:
    """The chord that a job with this message counts for."""
    group = headers.get("group")
    return group if isinstance(group, str) and is_marked(embed.get("chord")) else None


def chord_ends(
    headers: Mapping[str, Any], embed: Mapping[str, Any], uuid: str, state: str
) -> tuple[MemberEnd, ...]:
    """What the end of a job says about chords: about its own, and about those of the links that now
    never run.
    """
    found = []
    if (chord := chord_of(headers, embed)) is not None:
        found.append(MemberEnd(chord, _index(headers), state, uuid))
    if state != batch_counts.COMPLETED:
        for link in embed.get("chain") or ():
            found += unreachable_chord_ends(link, state)
    return tuple(found)


def unreachable_chord_ends(signature: Any, state: str) -> Iterator[MemberEnd]:
    """The members of chords that will never run, since this signature won't: they end like what it
    waited for.
    """
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
    """Whether a chord waits for a job that is dispatched with these options, or for a link behind
    it.
    """
    links = options.get("chain") or ()
    return is_marked(options.get("chord")) or any(
        True for link in links for _ in unreachable_chord_ends(link, batch_counts.CANCELLED)
    )


def _index(said: Mapping[str, Any]) -> int:
    index = said.get("group_index")
    return index if isinstance(index, int) and index >= 0 else 0
