"""Chains, groups and chords: a canvas is recognised after Celery has rewritten it."""

from __future__ import annotations

import pytest
from celery import chain, chord, group

from relevo.errors import OptionError


@pytest.fixture
def chained(queue, process, send, add, total):
    chain(process.s(7), send.si("ada")).apply_async()
    (add.s(1, 1) | group(add.s(2), add.s(3)) | total.s() | send.si("bob")).apply_async()
    send.delay("cyd")
    return queue


CHAINED = [
    lambda q, process, send, add, total: q.assert_chained([process, send]),
    lambda q, process, send, add, total: q.assert_chained(["shop.resize", "shop.mail"]),
    lambda q, process, send, add, total: q.assert_chained([process.s(7), send.s("ada")]),
    lambda q, process, send, add, total: q.assert_chained(chain(process.s(7), send.s("ada"))),
    lambda q, process, send, add, total: q.assert_chained(
        [process, send], where=lambda job: job.queue == "high"
    ),
    lambda q, process, send, add, total: q.assert_chained(
        [add, group(add.s(2), add.s(3)), total, send]
    ),
    lambda q, process, send, add, total: q.assert_chained(
        [add, chord([add.s(2), add.s(3)], total.s()), send]
    ),
    lambda q, process, send, add, total: q.assert_dispatched_without_chain(send),
]

NOT_CHAINED = [
    (
        lambda q, process, send, add, total: q.assert_chained([send, process]),
        "the chain shop.mail | shop.resize",
    ),
    (lambda q, process, send, add, total: q.assert_chained([process]), "the chain shop.resize to"),
    (
        lambda q, process, send, add, total: q.assert_chained([process, send, send]),
        "shop.mail | shop.mail",
    ),
    (
        lambda q, process, send, add, total: q.assert_chained([process.s(8), send]),
        "shop.resize(8) | shop.mail",
    ),
    (
        lambda q, process, send, add, total: q.assert_chained([add, group(add.s(2)), total, send]),
        "| math.add(2) |",
    ),
    (
        lambda q, process, send, add, total: q.assert_chained(
            [add, group(add.s(3), add.s(2)), total, send]
        ),
        "math.add | group(math.add(3), math.add(2)) | math.total | shop.mail",
    ),
    (
        lambda q, process, send, add, total: q.assert_chained(
            [process, send], where=lambda job: False
        ),
        "to be dispatched where the predicate is true",
    ),
    (
        lambda q, process, send, add, total: q.assert_dispatched_without_chain(process),
        "'shop.resize' to be dispatched without a chain",
    ),
    (lambda q, process, send, add, total: q.assert_nothing_chained(), "no chain to be dispatched"),
]


@pytest.mark.parametrize("holds", CHAINED)
def test_a_chain_is_recognised(chained, process, send, add, total, holds):
    holds(chained, process, send, add, total)


@pytest.mark.parametrize(("fails", "message"), NOT_CHAINED)
def test_another_chain_does_not_match(chained, process, send, add, total, fails, message):
    with pytest.raises(AssertionError) as said:
        fails(chained, process, send, add, total)
    assert message in str(said.value).splitlines()[0]
    assert "1. shop.resize(7) on 'high', tags ['file:7'], followed by shop.mail('ada')" in str(
        said.value
    )


@pytest.fixture
def grouped(queue, add, total, send):
    group(add.s(1, 1), add.s(2, 2) | add.s(3)).apply_async()
    chord([add.s(4, 4), add.s(5, 5)], total.s()).apply_async()
    send.delay("ada")
    return queue


GROUPED = [
    lambda q, send, add, total: q.assert_grouped([add, [add, add]]),
    lambda q, send, add, total: q.assert_grouped([add.s(1, 1), add.s(2, 2) | add.s(3)]),
    lambda q, send, add, total: q.assert_grouped(
        where=lambda group: len(group.jobs) == 2 and not group.chord
    ),
    lambda q, send, add, total: q.assert_grouped([add, add]),
    lambda q, send, add, total: q.assert_chord([add, add], total),
    lambda q, send, add, total: q.assert_chord([add.s(4, 4), "math.add"], total.s()),
    lambda q, send, add, total: q.assert_group_count(2),
]

NOT_GROUPED = [
    (lambda q, send, add, total: q.assert_grouped([add]), "group(math.add) to be dispatched"),
    (
        lambda q, send, add, total: q.assert_grouped([[add, add], add]),
        "group(math.add | math.add, math.add)",
    ),
    (
        lambda q, send, add, total: q.assert_grouped([add, add], where=lambda group: False),
        "where the predicate",
    ),
    (
        lambda q, send, add, total: q.assert_grouped(where=lambda group: False),
        "a group to be dispatched",
    ),
    (
        lambda q, send, add, total: q.assert_chord([add, [add, add]], total),
        "its results to math.total",
    ),
    (lambda q, send, add, total: q.assert_chord([add, add], send), "its results to shop.mail"),
    (lambda q, send, add, total: q.assert_group_count(1), "1 groups to be dispatched, got 2"),
    (lambda q, send, add, total: q.assert_nothing_grouped(), "no group to be dispatched"),
]


@pytest.mark.parametrize("holds", GROUPED)
def test_a_group_is_recognised(grouped, send, add, total, holds):
    holds(grouped, send, add, total)


@pytest.mark.parametrize("holds", GROUPED)
def test_a_group_is_the_same_group_after_its_jobs_have_run(grouped, send, add, total, holds):
    grouped.drain()
    holds(grouped, send, add, total)


@pytest.mark.parametrize(("fails", "message"), NOT_GROUPED)
def test_another_group_does_not_match(grouped, send, add, total, fails, message):
    with pytest.raises(AssertionError) as said:
        fails(grouped, send, add, total)
    assert message in str(said.value).splitlines()[0]
    assert "whose results go to math.total()" in str(said.value)


def test_a_group_before_a_task_is_a_chord(queue, add, total):
    (group(add.s(1, 2), add.s(3, 4)) | total.s()).apply_async()
    queue.assert_chord([add.s(1, 2), add.s(3, 4)], total)


def test_an_assertion_says_when_nothing_was_chained_or_grouped(queue, send):
    send.delay("ada")
    queue.assert_nothing_chained()
    queue.assert_nothing_grouped()


def test_a_callback_is_recognised(queue, process, send):
    process.apply_async((7,), link=send.si("ada"))
    queue.assert_linked(process, send)
    queue.assert_linked(process, send.s("ada"))
    with pytest.raises(AssertionError, match=r"dispatched with the callback shop\.mail\('bob'\)"):
        queue.assert_linked(process, send.s("bob"))


def test_chunks_are_a_group(queue, add):
    add.chunks([(1, 1), (2, 2), (3, 3)], 2).apply_async()
    queue.assert_grouped(["celery.starmap", "celery.starmap"])


def test_an_invalid_step_is_refused(queue):
    with pytest.raises(
        OptionError, match="expected a task, its name, a signature or a list of them, got 7"
    ):
        queue.assert_chained([7])
