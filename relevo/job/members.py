"""To which batches a job belongs, and what its end means to them.

It stands in a header of the message, beside the baton, so that a retry keeps it: a list of `[batch, member, each]`.
A chain is one member: its last link completes it, any link fails it. With `each` set every link counts for itself.
It comes from outside, so it is read forgivingly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from relevo.store import tally
from relevo.store.batches import MemberEnd

HEADER = "relevo_member"
#: The header of a job that came through the outbox: its end is a receipt.
SENT = "relevo_sent"
#: The header of a job by the clock, the name of its entry: its end is noted with its run.
SCHEDULED = "schedule_entry"
#: The task that opens a batch as the link of a chain: the link is done when the batch is.
OPENER = "relevo.open_batch"


@dataclass(frozen=True, slots=True)
class Membership:
    """A place in a batch. `each`: the job counts for itself, also when it is a link with others to follow."""

    batch: str
    member: int
    each: bool = False

    def header(self) -> list[Any]:
        """As it stands in the message."""
        return [self.batch, self.member, *([1] if self.each else [])]


def read(headers: Mapping[str, Any] | None) -> tuple[Membership, ...]:
    """The memberships of a message with these headers."""
    sent = (headers or {}).get(HEADER)
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
    return {**kept, HEADER: [place.header() for place in (*read(kept), *places)]}


def ends(headers: Mapping[str, Any], uuid: str, state: str, chain: Sequence[Any] | None) -> tuple[MemberEnd, ...]:
    """What the end of a job, with `chain` still to come, says about its batches."""
    return tuple(
        MemberEnd(place.batch, place.member, state, uuid)
        for place in read(headers)
        if place.each or not chain or state != tally.COMPLETED
    )


def ends_of(request: Any, state: str) -> tuple[MemberEnd, ...]:
    """What the end of a request's job (of the worker's main process) says about its batches."""
    headers = request.request_dict
    if HEADER not in headers or (request.type == OPENER and state == tally.COMPLETED):
        return ()
    return ends(headers, str(request.id), state, chain_of(request))


def chain_of(request: Any) -> Sequence[Any] | None:
    """The links that follow a request's job, the last one first."""
    with suppress(Exception):  # a body that can't be read has no chain
        return request._payload[2].get("chain")  # noqa: SLF001  Celery's own way
    return None


def sent_uuid(request: Any) -> str | None:
    """The id of a job that came through the outbox."""
    return str(request.id) if request.request_dict.get(SENT) else None
