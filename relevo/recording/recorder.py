"""The recorder: a thread of the worker's main process that writes records in groups, then acks.

    a job has ended -> add(record, done)
                    -> one transaction in the store, with all that ended during the last one
                    -> what lies elsewhere: results in another backend
                    -> done(items): the acks go to the lease keeper

So no job is acked before its record is committed. While the store is away the records wait, and the
jobs' leases are renewed; a process that ends meanwhile releases its jobs, and they run again. If
the store refuses a group, its records are written one by one: a bad one holds up no other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from relevo.errors import DriverUnavailableError

Done = Callable[[list[Any]], None]

logger = logging.getLogger(__name__)

# The largest group.
MAX_GROUP_SIZE = 1000
# Between two deletions of old records.
HOUSEKEEPING_SECONDS = 60.0
# Between two tries while the store is away.
RETRY_SECONDS = 1.0
# With this many records waiting the recorder is full: the worker takes no more jobs.
MAX_WAITING = 5000
# How long the stop of the worker waits for the last group.
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class PendingRecord:
    """A record, and the function to call with `item` after its commit.

    `done` is called once for all items of a group that have it in common.
    """

    record: Any
    done: Done
    item: Any


class Recorder:
    """Writes records with `write`, which commits all of them or raises. Any thread may add.

    `tidy`: deletes old records; called once in HOUSEKEEPING_SECONDS.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Any]], None],
        tidy: Callable[[], None] | None = None,
        publish: Callable[[Sequence[Any]], bool] | None = None,
    ) -> None:
        self.write, self._tidy, self._publish = write, tidy, publish
        self._tidied = time.monotonic()
        self._waiting: list[PendingRecord] = []
        self._changed = threading.Condition()
        self._stopping = False
        #: Records that the store refused: their jobs stay reserved.
        self.refused = 0
        self._thread = threading.Thread(target=self._run, name="relevo-recorder", daemon=True)
        self._thread.start()

    def add(self, record: Any, done: Done, item: Any = None) -> None:
        """Write `record` with the next group; its thread then calls `done([item, …])`."""
        with self._changed:
            self._waiting.append(PendingRecord(record, done, item))
            if len(self._waiting) == 1:
                self._changed.notify()

    @property
    def is_idle(self) -> bool:
        """Whether no record waits or is being written."""
        return not self._waiting

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= MAX_WAITING

    def stop(self) -> None:
        """Write the waiting records, if the store takes them within STOP_SECONDS, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(STOP_SECONDS)
        if self._waiting:
            logger.warning(
                "%d jobs have ended without a record: they are released and run again",
                len(self._waiting),
            )

    def _run(self) -> None:
        while self._wait():
            if self._waiting and not self._write_group() and not self._pause():
                while self._waiting and self._write_group():
                    """The store may be back: this is the last try."""
                return
            self._keep_house()

    def _keep_house(self) -> None:
        if (
            self._tidy is None
            or self._stopping
            or time.monotonic() - self._tidied < HOUSEKEEPING_SECONDS
        ):
            return
        self._tidied = time.monotonic()
        try:
            self._tidy()
        except Exception:  # the next housekeeping deletes them
            logger.exception("old records could not be deleted")

    def _wait(self) -> bool:
        """Wait for a group or for the next housekeeping. Returns False when all is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping, HOUSEKEEPING_SECONDS)
            return bool(self._waiting) or not self._stopping

    def _pause(self) -> bool:
        """Wait before the next try. Returns False if the recorder is to stop."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._stopping, RETRY_SECONDS)

    def _write_group(self) -> bool:
        """Write the first waiting records. Returns False if the store is away."""
        group = self._waiting[:MAX_GROUP_SIZE]
        began = time.monotonic()
        try:
            self.write([entry.record for entry in group])
        except DriverUnavailableError as error:
            logger.warning("%d records wait for the store: %s", len(self._waiting), error)
            return False
        except Exception:
            logger.exception("%d records were refused together, each is tried alone", len(group))
            return self._write_each(group)
        self._publish_patiently([entry.record for entry in group])
        self._written(group)
        logger.debug("%d records in %.3f s", len(group), time.monotonic() - began)
        return True

    def _write_each(self, group: Sequence[PendingRecord]) -> bool:
        for entry in group:
            try:
                self.write([entry.record])
            except DriverUnavailableError:
                return False
            except Exception:
                logger.exception(
                    "a record can't be written, its job stays reserved: %r", entry.record
                )
                self.refused += 1
                self._forget(1)
            else:
                self._publish_patiently([entry.record])
                self._written([entry])
        return True

    def _publish_patiently(self, records: Sequence[Any]) -> None:
        """What stands outside of the store follows its commit, however long that takes; only the
        end of the worker doesn't wait for it.
        """
        while self._publish is not None and not self._publish(records):
            if not self._pause():
                self._publish(records)
                return

    def _written(self, group: Sequence[PendingRecord]) -> None:
        self._forget(len(group))
        items: dict[Done, list[Any]] = {}
        for entry in group:
            items.setdefault(entry.done, []).append(entry.item)
        for done, each in items.items():
            try:
                done(each)
            except Exception:
                logger.exception("%d jobs were recorded and could not be acked", len(each))

    def _forget(self, count: int) -> None:
        with self._changed:
            del self._waiting[:count]
