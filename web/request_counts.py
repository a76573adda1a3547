"""Counts the requests of each subject (a token or an address) in a minute, over all processes.

    count()   at each request: adds one in memory. The sum is this process's count, and the count of
              the other processes as it was at the last flush.
    flush()   in a thread, once a second while there are requests: writes this process's count to
              the database, and reads the counts of the others.

So no request waits for a write. On SQLite each would wait for the one write lock, GETs too. The
price: several processes may let through the requests of one second beyond the limit, and a process
that dies loses the counts of its last second.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from app import settings
from app.models import RequestCount, read_connection, separate_session

logger = logging.getLogger(__name__)

#: Seconds between two flushes.
FLUSH_SECONDS = 1.0
#: Database, subject, minute.
Key = tuple[str, str, int]

_THIS_COUNT = RequestCount.subject == bindparam("of"), RequestCount.minute == bindparam("at")
_READ = select(RequestCount.requests).where(*_THIS_COUNT)


@dataclass(slots=True)
class Count:
    """Requests of one subject and minute: to this process, of these written, and to the others."""

    here: int = 0
    written: int = 0
    others: int = 0


_counts: dict[Key, Count] = {}
_lock = threading.Lock()
_thread: threading.Thread | None = None
_flushing = threading.Lock()


def count(subject: str, minute: int) -> int:
    """Count a request. Returns how many the subject has made in this minute, as far as known."""
    key = (settings.engine().database_url, subject, minute)
    if key not in _counts:
        with read_connection() as db:
            others = db.execute(_READ, {"of": subject, "at": minute}).scalar() or 0
        with _lock:
            _counts.setdefault(key, Count(others=others))
    with _lock:
        mine = _counts.setdefault(key, Count())
        mine.here += 1
        _start_thread()
        return mine.here + mine.others


def flush() -> bool:
    """Write the counts of this process and read those of the others. Returns whether there were new
    requests.
    """
    with _flushing:
        with _lock:
            due = [
                (key, kept, kept.here) for key, kept in _counts.items() if kept.here > kept.written
            ]
            newest = max((key[2] for key in _counts), default=0)
            for key in [
                key
                for key, kept in _counts.items()
                if key[2] < newest - 1 and kept.here == kept.written
            ]:
                del _counts[key]
        for (url, subject, minute), kept, here in due:
            kept.others = _add(url, subject, minute, here - kept.written) - here
            kept.written = here
    return bool(due)


def _start_thread() -> None:
    global _thread  # noqa: PLW0603  one a process
    if _thread is None or not _thread.is_alive():  # a forked child does not inherit the thread
        _thread = threading.Thread(target=_run, name="request-counts", daemon=True)
        _thread.start()


def _run() -> None:
    global _thread  # noqa: PLW0603  see above
    while True:
        time.sleep(FLUSH_SECONDS)
        try:
            busy = flush()
        except SQLAlchemyError as error:
            logger.warning("the request counts can't be written just now: %s", error)
            busy = True
        with _lock:
            if not busy and all(kept.here == kept.written for kept in _counts.values()):
                _thread = None
                return


def _add(url: str, subject: str, minute: int, more: int) -> int:
    """Add to the count in the database. Returns the new count."""
    mine = RequestCount.subject == subject, RequestCount.minute == minute
    try:
        with separate_session(url) as db:
            found = db.execute(
                update(RequestCount).where(*mine).values(requests=RequestCount.requests + more)
            )
            if not found.rowcount:
                db.add(RequestCount(subject=subject, minute=minute, requests=more))
                return more
            return db.scalar(select(RequestCount.requests).where(*mine)) or more
    except IntegrityError:  # another process has just inserted the row
        return _add(url, subject, minute, more)
