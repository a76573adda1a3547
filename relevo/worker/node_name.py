"""Warns of a second worker of the same name on this host.

Remote control, events and the dashboard know a worker by its name, so they take two of one name for
one: a command is answered by both, and the page shows the one that was heard last. Jobs are not
touched by it: a lease belongs to a process.

The name is locked in a file of RELEVO_VAR_DIR. The kernel frees the lock when the process ends or
starts again, however that happens, and a child of the process does not inherit it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO
from urllib.parse import quote

from celery.utils.log import get_logger

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

logger = get_logger(__name__)


def claim(folder: Path, name: str) -> IO[str] | None:
    """Lock a node's name for this process, or warn that another process has it.

    Returns the locked file, which must stay open; None without a lock.
    """
    if fcntl is None:
        return None
    with contextlib.suppress(OSError):  # a folder that can't be written says nothing about names
        path = folder / "nodes" / f"{quote(name, safe='@')[:200]}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
        if _is_locked(file):
            return file
        file.seek(0)
        logger.warning(
            "another worker named %r runs on this host (process %s): remote control and the"
            " dashboard take the two for one; give each its own name, like -n worker-2@%%h",
            name,
            file.read().strip() or "?",
        )
        file.close()
    return None


def _is_locked(file: IO[str]) -> bool:
    """Lock the file for this process and write its number into it, unless another one has it."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return True
