"""The pipe between a worker's main process and one of its children: whole messages, both ways.

Each child has a pipe of its own, so a child that is killed in the midst of a message spoils nobody
else's. What a child has sent stays in the pipe when it dies, and the main process reads it to the
end. The main process never waits: what a busy child doesn't take yet is kept, and sent later.
"""

from __future__ import annotations

import pickle
import select
import socket
import struct
from collections import deque
from typing import Any

from billiard.reduction import ForkingPickler

_LENGTH = struct.Struct("!Q")
_CHUNK = 1 << 18
_BUFFER = 1 << 18

loads = pickle.loads


def dumps(message: Any) -> bytes:
    """The bytes of a message, with its length before them. Raises what pickling raises."""
    try:
        body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001  billiard's pickler knows more, and takes four times as long
        body = bytes(ForkingPickler.dumps(message, pickle.HIGHEST_PROTOCOL))
    return _LENGTH.pack(len(body)) + body


def make() -> tuple[socket.socket, socket.socket]:
    """The two ends: the main process's, and the child's."""
    ours, childs = socket.socketpair()
    for end in (ours, childs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    ours.setblocking(False)
    return ours, childs


class ChildEnd:
    """The child's end: it waits, for the next message and until its own is taken."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._reader = end.makefile("rb", buffering=_CHUNK)

    def receive(self) -> Any:
        """The next message. Raises EOFError when the main process is gone."""
        length = self._read(_LENGTH.size)
        return loads(self._read(_LENGTH.unpack(length)[0]))

    def send(self, written: bytes) -> None:
        self._end.sendall(written)

    def _read(self, size: int) -> bytes:
        read = self._reader.read(size)
        if read is None or len(read) < size:
            raise EOFError
        return read


class MainEnd:
    """The main process's end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._in = bytearray()
        self._out: deque[memoryview] = deque()
        self.is_closed = False

    def fileno(self) -> int:
        return self._end.fileno()

    @property
    def wants_to_write(self) -> bool:
        return bool(self._out)

    def send(self, written: bytes) -> None:
        self._out.append(memoryview(written))
        self.flush()

    def flush(self) -> None:
        """Send what the child takes now."""
        while self._out:
            try:
                sent = self._end.send(self._out[0])
            except BlockingIOError:
                return
            except OSError:  # it has died: its end is read from the other direction
                self._out.clear()
                return
            if sent == len(self._out[0]):
                self._out.popleft()
            else:
                self._out[0] = self._out[0][sent:]

    def receive(self) -> list[Any]:
        """The messages that have come whole. `is_closed` says then whether the child is gone."""
        while not self.is_closed:
            try:
                read = self._end.recv(_CHUNK)
            except BlockingIOError:
                break
            except OSError:
                read = b""
            self._in += read
            self.is_closed = not read
            if len(read) < _CHUNK:
                break
        return self._cut()

    def _cut(self) -> list[Any]:
        found, at, have = [], 0, len(self._in)
        while have - at >= _LENGTH.size:
            length = _LENGTH.unpack_from(self._in, at)[0]
            start, end = at + _LENGTH.size, at + _LENGTH.size + length
            if end > have:
                break
            found.append(loads(memoryview(self._in)[start:end]))
            at = end
        if at:
            del self._in[:at]
        return found

    def has_pending(self) -> bool:
        """Whether there is something to read."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return any(found & select.POLLIN for _, found in poll.poll(0))

    def close(self) -> None:
        self.is_closed = True
        self._end.close()
