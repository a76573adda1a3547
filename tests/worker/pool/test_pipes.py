"""The pool's pipes: messages arrive whole, even if an earlier reader or writer was
killed half way.
"""

from __future__ import annotations

import os
import sys
import threading

import pytest
from billiard import connection, get_context

from relevo.worker.pool import pipes
from relevo.worker.pool.pipes import PACKET, SMALL, use_packets

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has pipes of packets")

SIZES = [0, 1, SMALL - 1, SMALL, SMALL + 1, 2 * SMALL, 3_000_000]


@pytest.fixture
def ends():
    reader, writer = connection.Pipe(duplex=False)
    assert use_packets(reader, writer)
    yield reader, writer
    reader.close()
    writer.close()


def written(writer, *messages):
    """Write a message, which may be larger than the pipe."""
    thread = threading.Thread(
        target=lambda: [writer.send(message) for message in messages], daemon=True
    )
    thread.start()
    return thread


@pytest.mark.parametrize("size", SIZES)
def test_a_message_arrives_as_it_was_sent(ends, size):
    reader, writer = ends
    thread = written(writer, b"x" * size, "the next")
    assert (reader.recv(), reader.recv()) == (b"x" * size, "the next")
    thread.join()
    writer.send_bytes(b"as bytes")
    assert reader.recv_bytes() == b"as bytes"
    assert not reader.poll()


def test_the_rest_of_what_a_killed_child_began_to_read_is_skipped(ends):
    reader, writer = ends
    thread = written(writer, b"x" * 5 * SMALL, "the next", b"y" * 5 * SMALL)
    os.read(reader.fileno(), PACKET)
    os.read(reader.fileno(), PACKET)
    assert (reader.recv(), reader.recv()) == ("the next", b"y" * 5 * SMALL)
    thread.join()


@pytest.mark.parametrize("size", [1, 3 * SMALL])
def test_half_of_what_a_killed_child_wrote_is_forgotten(ends, size, monkeypatch):
    reader, writer = ends
    rest = [2]

    def dies(pipe, packet):
        rest[0] -= 1
        if rest[0] < 0:
            raise SystemExit
        return real(pipe, packet)

    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(pipes.os, "write", dies)
        with pytest.raises(SystemExit):
            writer.send(b"x" * 5 * SMALL)
    writer.send(b"y" * size)
    assert reader.recv() == b"y" * size


def test_the_end_of_the_pipe_is_an_eof_error(ends):
    reader, writer = ends
    writer.close()
    with pytest.raises(EOFError):
        reader.recv()


def test_a_system_without_such_pipes_keeps_billiards(monkeypatch):
    monkeypatch.delattr(os, "O_DIRECT")
    queue = get_context().SimpleQueue()
    assert use_packets(queue._reader, queue._writer) == 0
    queue.put("as ever")
    assert queue.get() == "as ever"
