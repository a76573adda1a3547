"""The pipe to a child: a message arrives whole, or not at all."""

from __future__ import annotations

import threading

import pytest

from relevo.worker.pool import pipe

SIZES = [0, 1, 65_535, 65_536, 300_000, 3_000_000]


@pytest.fixture
def ends():
    ours, childs = pipe.make()
    main, child = pipe.MainEnd(ours), pipe.ChildEnd(childs)
    yield main, child, childs
    main.close()
    childs.close()


def received(main: pipe.MainEnd, count: int) -> list:
    found: list = []
    while len(found) < count and not main.is_closed:
        found += main.receive()
    return found


@pytest.mark.parametrize("size", SIZES)
def test_messages_of_a_child_arrive_as_they_were_sent(ends, size):
    main, child, _ = ends
    messages = [("first", b"x" * size), "the next", None]
    thread = threading.Thread(target=lambda: [child.send(pipe.dumps(each)) for each in messages])
    thread.start()
    assert received(main, 3) == messages
    thread.join()


@pytest.mark.parametrize("size", SIZES)
def test_the_main_process_never_waits_for_a_child_that_does_not_read(ends, size):
    main, child, _ = ends
    main.send(pipe.dumps(b"x" * size))
    main.send(pipe.dumps("the next"))
    found = []
    thread = threading.Thread(target=lambda: found.extend([child.receive(), child.receive()]))
    thread.start()
    while main.wants_to_write:
        main.flush()
    thread.join()
    assert found == [b"x" * size, "the next"]


def test_what_a_child_has_sent_is_read_after_its_death_and_half_a_message_is_nothing(ends):
    main, child, childs = ends
    child.send(pipe.dumps("whole"))
    child.send(pipe.dumps("x" * 100)[:50])
    childs.shutdown(2)
    child._reader.close()
    childs.close()
    assert received(main, 2) == ["whole"]
    assert main.is_closed


def test_a_message_to_a_dead_child_is_dropped(ends):
    main, child, childs = ends
    child._reader.close()
    childs.close()
    main.send(pipe.dumps("anybody there?"))
    assert received(main, 1) == []
    assert main.is_closed
    assert not main.wants_to_write


def test_a_child_learns_that_its_main_process_is_gone(ends):
    main, child, _ = ends
    main.close()
    with pytest.raises(EOFError):
        child.receive()
