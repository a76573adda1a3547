"""The job that ends a chord, when all members of its header have: `relevo.chord`.

    all have completed -> their results are read, in order  -> the body, once, however often this job runs
    one has not        -> the body's result is a ChordError -> its error callbacks, once

It is handed in by whoever recorded the last member's end, in the same transaction. When a member
that had failed is put back by hand and completes, it is handed in once more, and then the body runs
after all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from celery.backends.base import _create_chord_error_with_cause
from celery.canvas import Signature, maybe_signature
from celery.exceptions import ChordError
from sqlalchemy import Connection

from relevo.batches import chord
from relevo.batches.chord import Together
from relevo.dispatch.delivery import Delivery, delivery_of
from relevo.job import membership
from relevo.store import batch_counts, batches, receipts
from relevo.store.batches import MemberEnd

# Results are away for a while now and then; what can't be joined in the end is a failed job, and
# can be put back.
OPTIONS = {"tries": 6, "backoff": [1, 5, 15, 60, 300]}


def register_task(app: Any) -> None:
    """Give an app the task."""
    app.task(name=membership.CHORD_TASK, bind=True, shared=False, ignore_result=True, **OPTIONS)(
        join
    )


def join(self: Any, id_: str, body: dict[str, Any], tree: list[Any] | None = None) -> None:
    """End the chord with this id. `tree`: the ids of its jobs as lists of lists, where its results
    are.
    """
    app, way = self.app, delivery_of(self.app)
    row = batches.find(way.store, id_)
    if row is None or row.tally.pending:
        # pruned; or more members were added while this job was on its way, and it comes again
        return
    ended = batches.ended_members(way.store, id_, limit=row.tally.processed)
    callback = maybe_signature(body, app=app)
    callback.options.pop(membership.CHORD_OPTION, None)
    try:
        results = _results(app.backend, ended, tree)
        with chord.together() as found:
            _called(callback, results)
    except ChordError as error:
        _fails(way, id_, callback, error)
    else:
        _hand_in(way, f"chord:{id_}", found, ())


def _called(body: Signature, results: list[Any]) -> None:
    try:
        body.delay(results)
    except Exception as error:
        raise _create_chord_error_with_cause(f"Callback error: {error!r}", error) from error


def _fails(way: Delivery, id_: str, body: Signature, error: ChordError) -> None:
    """The body will never run: store that, call its error callbacks, and tell the batches and
    chords it belongs to.
    """
    with chord.together() as found:
        try:
            raise error
        except ChordError:
            way.app.backend.chord_error_from_stack(body, error)
    _hand_in(
        way,
        f"chord-failed:{id_}",
        found,
        tuple(membership.unreachable_ends(body, batch_counts.FAILED)),
    )


def _hand_in(way: Delivery, receipt: str, found: Together, ends: Sequence[MemberEnd]) -> None:
    def write(connection: Connection) -> None:
        if receipts.insert_once(connection, receipt):
            chord.hand_in(connection, way, found)
            batches.prepare_ends(ends, way.hand_in)(connection)

    way.store.write(write)
    way.after_commit(way.app.settings.queue_connection, *found.connections.values())


def _results(backend: Any, ended: Sequence[MemberEnd], tree: list[Any] | None) -> list[Any]:
    """What the members returned, in their order. Raises ChordError if one has not completed, or its
    result is gone.
    """
    for end in ended:
        if end.state != batch_counts.COMPLETED:
            error = backend.get_task_meta(end.uuid, cache=False).get("result")
            said = f"raised {error!r}" if isinstance(error, BaseException) else f"has {end.state}"
            raise _create_chord_error_with_cause(f"Dependency {end.uuid} {said}", error)
    tree = [end.uuid for end in ended] if tree is None else tree
    wanted = list(_leaves(tree))
    known = backend.results_of(wanted)
    for uuid in wanted:
        if uuid not in known:
            raise ChordError(
                f"Dependency {uuid} has no result: it has expired, or its task raised Ignore"
            )
    extra = [end.uuid for end in ended if end.uuid not in known]  # added while it ran
    known |= backend.results_of(extra)
    return [*_filled(tree, known), *(known[uuid] for uuid in extra if uuid in known)]


def _leaves(tree: list[Any]) -> Iterator[str]:
    for each in tree:
        if isinstance(each, list):
            yield from _leaves(each)
        else:
            yield each


def _filled(tree: list[Any], known: dict[str, Any]) -> list[Any]:
    return [_filled(each, known) if isinstance(each, list) else known[each] for each in tree]
