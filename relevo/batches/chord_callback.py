"""`relevo.chord`: the job that runs a chord's body when all members of its header have ended.

    all have completed  -> their results are read, in order  -> the body is sent
    one has not         -> the body's result is a ChordError -> its error callbacks are sent

The body, or its error callbacks, are sent once, however often this job runs. The transaction that
records the last member's end hands this job in. When a failed member is retried by hand and
completes, this job is handed in once more, and then the body runs after all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from celery.backends.base import _create_chord_error_with_cause
from celery.canvas import Signature, maybe_signature
from celery.exceptions import ChordError
from sqlalchemy import Connection

from relevo.batches import chord
from relevo.batches.chord import CapturedDispatch
from relevo.dispatch.delivery import Delivery, delivery_of
from relevo.job import membership
from relevo.store import batch_counts, batches, receipts
from relevo.store.batches import MemberEnd

# The result backend may be away for minutes. If the tries don't suffice, this is a failed job, and
# can be retried.
OPTIONS = {"tries": 6, "backoff": [1, 5, 15, 60, 300]}


def register_task(app: Any) -> None:
    """Define the task in an app."""
    app.task(name=membership.CHORD_TASK, bind=True, shared=False, ignore_result=True, **OPTIONS)(
        run_callback
    )


def run_callback(self: Any, id_: str, body: dict[str, Any], tree: list[Any] | None = None) -> None:
    """End the chord with this id. `tree`: the ids of its jobs, nested as their results are."""
    app, delivery = self.app, delivery_of(self.app)
    row = batches.find(delivery.store, id_)
    if row is None or row.tally.pending:
        # The chord was pruned; or members were added after this job was sent. Then it comes again.
        return
    ended = batches.ended_members(delivery.store, id_, limit=row.tally.processed)
    callback = maybe_signature(body, app=app)
    callback.options.pop(membership.CHORD_OPTION, None)
    try:
        results = _results(app.backend, ended, tree)
        with chord.capture_chords() as found:
            _call_body(callback, results)
    except ChordError as error:
        _fail_chord(delivery, id_, callback, error)
    else:
        _commit(delivery, f"chord:{id_}", found, ())


def _call_body(body: Signature, results: list[Any]) -> None:
    try:
        body.delay(results)
    except Exception as error:
        raise _create_chord_error_with_cause(f"Callback error: {error!r}", error) from error


def _fail_chord(delivery: Delivery, id_: str, body: Signature, error: ChordError) -> None:
    """The body will never run: store its error, send its error callbacks, and end its places in
    batches and chords.
    """
    with chord.capture_chords() as found:
        try:
            raise error
        except ChordError:
            delivery.app.backend.chord_error_from_stack(body, error)
    _commit(
        delivery,
        f"chord-failed:{id_}",
        found,
        tuple(membership.unreachable_ends(body, batch_counts.FAILED)),
    )


def _commit(
    delivery: Delivery, receipt: str, found: CapturedDispatch, ends: Sequence[MemberEnd]
) -> None:
    def write(connection: Connection) -> None:
        if receipts.insert_once(connection, receipt):
            chord.store_and_send(connection, delivery, found)
            batches.prepare_ends(ends, delivery.hand_in)(connection)

    delivery.store.write(write)
    delivery.after_commit(delivery.app.settings.queue_connection, *found.connections.values())


def _results(backend: Any, ended: Sequence[MemberEnd], tree: list[Any] | None) -> list[Any]:
    """The results of the members, in order. Raises ChordError if a member has not completed, or its
    result is gone.
    """
    for end in ended:
        if end.state != batch_counts.COMPLETED:
            error = backend.get_task_meta(end.uuid, cache=False).get("result")
            what = f"raised {error!r}" if isinstance(error, BaseException) else f"has {end.state}"
            raise _create_chord_error_with_cause(f"Dependency {end.uuid} {what}", error)
    tree = [end.uuid for end in ended] if tree is None else tree
    wanted = list(_leaves(tree))
    known = backend.results_of(wanted)
    for uuid in wanted:
        if uuid not in known:
            raise ChordError(
                f"Dependency {uuid} has no result: it has expired, or its task raised Ignore"
            )
    extra = [end.uuid for end in ended if end.uuid not in known]  # members added while it ran
    known |= backend.results_of(extra)
    return [*_arrange(tree, known), *(known[uuid] for uuid in extra if uuid in known)]


def _leaves(tree: list[Any]) -> Iterator[str]:
    for each in tree:
        if isinstance(each, list):
            yield from _leaves(each)
        else:
            yield each


def _arrange(tree: list[Any], known: dict[str, Any]) -> list[Any]:
    return [_arrange(each, known) if isinstance(each, list) else known[each] for each in tree]
