"""What happens at a limit, step by step, for stores that are told in Python: the database's and the
one in memory.

A store hands in the record of one key while it holds the key's lock. `redis/lua` says the same in
Lua.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from relevo.limits import breakers, rates, waiters
from relevo.limits.breakers import Breaker
from relevo.limits.contract import HandoverResult, Holder, PermitHandover, PermitRequest, check_key
from relevo.limits.rates import Rate
from relevo.limits.waiters import Waiter

Item = TypeVar("Item")


class Record(Protocol):
    """One key: its state, its permits, its line."""

    #: What its rate or breaker keeps; None at first, and when it is None nothing is kept. Numbers
    #: and texts in lists.
    state: Any

    def has_waiters(self) -> bool:
        """Whether anybody waits."""

    def holders(self) -> Sequence[str]:
        """The tokens of the permits that are held; those of leases that are gone are forgotten
        here.
        """

    def add_permit(self, holder: Holder, now: float) -> None: ...

    def remove_permit(self, token: str) -> None: ...

    def waiter(self, job_id: str) -> Waiter | None: ...

    def expected(self, after: float, until: float) -> Sequence[Waiter]:
        """Those in line who were due after the one instant and until the other."""

    def count_later(self, now: float) -> int:
        """How many in line are due later than now."""

    def count_earlier(self, since: float) -> int:
        """How many in line have waited for longer."""

    def next_waiters(self, now: float, most: int) -> Sequence[str]:
        """The first in line who are due later than now."""

    def missed_waiters(self, before: float, most: int) -> Sequence[str]:
        """The first in line who were due before that, and haven't come."""

    def put_waiter(self, waiting: Waiter) -> None:
        """Into the line, or to another time."""

    def remove_waiter(self, job_id: str) -> None: ...

    def remove_late_waiters(self, before: float) -> None:
        """Those who were due before that and haven't come."""


def take(record: Record, at_most: int, holder: Holder, now: float) -> float:
    """Take a permit, or get in line."""
    held = record.holders()
    mine = record.waiter(holder.job_id)
    room = at_most - len(held)
    if holder.token in held:
        return 0.0
    if room > 0 and room > waiters.count_ahead(record.expected(now - waiters.GRACE, now), mine):
        record.add_permit(holder, now)
        if mine:
            record.remove_waiter(holder.job_id)
        return 0.0
    record.remove_late_waiters(now - waiters.FORGET)
    since = mine.since if mine else now
    wait = waiters.permit_wait(now - since, record.count_earlier(since), at_most)
    record.put_waiter(Waiter(holder.job_id, since, now + wait))
    return wait


def release(record: Record, at_most: int, holder: Holder, now: float) -> list[str]:
    """Give a permit back; who is next in line is due now."""
    record.remove_permit(holder.token)
    return call_next(record, at_most, now)


def call_next(record: Record, at_most: int, now: float) -> list[str]:
    """As many of the line as there is room for are due now."""
    if not record.has_waiters():
        return []
    return _call_up_to(
        record,
        at_most - len(record.holders()) - len(record.expected(now - waiters.GRACE, now)),
        now,
    )


def _call_up_to(record: Record, room: int, now: float) -> list[str]:
    called = list(record.next_waiters(now, room)) if room > 0 else []
    for job_id in called:
        waiting = record.waiter(job_id)
        record.put_waiter(Waiter(job_id, waiting.since if waiting else now, now))
    # Where there is room for more: who was called once and hasn't come. The call was lost, or there
    # is no such job now.
    return (
        called + list(record.missed_waiters(now - waiters.GRACE, room - len(called)))
        if room > len(called)
        else called
    )


def take_free(record: Record, wanted: Sequence[PermitRequest], now: float) -> set[str]:
    """Take what is free of one key, if nobody waits. Returns the tokens that have a permit."""
    if record.has_waiters():
        return set()
    held, taken = set(record.holders()), set()
    for each in wanted:
        token = each.holder.token
        if token not in held and len(held) < each.at_most:
            record.add_permit(each.holder, now)
            held.add(token)
        if token in held:
            taken.add(token)
    return taken


def hand_over(
    record: Record, at_most: int, left: Sequence[PermitHandover], now: float
) -> HandoverResult:
    """Give permits of one key back, or to others."""
    held, without = set(record.holders()), set()
    for each in left:
        token = each.wanted.holder.token
        was_held = token in held
        if was_held:
            record.remove_permit(token)
            held.discard(token)
        if (
            each.to is not None and each.to.token not in held
        ):  # or it was passed on, and the answer was lost
            if was_held or (len(held) < each.wanted.at_most and not record.has_waiters()):
                record.add_permit(each.to, now)
                held.add(each.to.token)
            else:
                without.add(each.to.token)
    crowded = {left[0].wanted.key} if record.has_waiters() else set()
    return HandoverResult(call_next(record, at_most, now), crowded, without)


def by_key(items: Iterable[Item], key: Callable[[Item], str]) -> list[tuple[str, list[Item]]]:
    """Items by their keys, in the order in which all lock keys."""
    found: dict[str, list[Item]] = {}
    for item in items:
        check_key(key(item))
        found.setdefault(key(item), []).append(item)
    return sorted(found.items())


def hit(record: Record, rate: Rate, cost: float, job_id: str, now: float) -> float:
    """Take units of a rate, or get in line."""
    cost = min(cost, rate.most)
    state = rates.current(record.state, rate, now)
    mine = record.waiter(job_id)
    before = waiters.count_ahead(record.expected(now - waiters.grace_seconds(rate), now), mine)
    if rates.free_units(state, rate) >= cost * (1 + before):
        record.state = rates.spend(state, rate, cost, now)
        if mine:
            record.remove_waiter(job_id)
        return 0.0
    record.remove_late_waiters(now - waiters.FORGET)
    wanted = min(cost * (1 + before), rate.most)
    opens_in = rates.opens_at(state, rate, wanted, now) - now or rate.per / rate.amount
    wait = waiters.rate_wait(rate, cost, opens_in, 0 if mine else record.count_later(now))
    record.put_waiter(Waiter(job_id, mine.since if mine else now, now + wait))
    return wait


def refund(record: Record, cost: float, now: float) -> list[str]:
    """Give units of a rate back; as many of the line as they are for are due now."""
    if not record.state:
        return []
    rate = Rate(*record.state[0])
    cost = min(cost, rate.most)
    record.state = rates.refund(rates.current(record.state, rate, now), rate, cost)
    room = int(rates.free_units(record.state, rate) / cost) - len(
        record.expected(now - waiters.grace_seconds(rate), now)
    )
    return _call_up_to(record, room, now)


def check_breaker(record: Record, job_id: str, now: float) -> tuple[float, bool]:
    """For how long a job waits, in line, and whether errors are remembered."""
    wait, mine = breakers.seconds_left(record.state, now), record.waiter(job_id)
    if wait:
        record.remove_late_waiters(now - waiters.FORGET)
        record.put_waiter(Waiter(job_id, mine.since if mine else now, now + wait))
    elif mine:
        record.remove_waiter(job_id)
    return wait, record.state is not None


def record_error(record: Record, breaker: Breaker, now: float) -> float:
    """Count an error."""
    record.state = breakers.after_error(record.state, breaker, now)
    return breakers.seconds_left(record.state, now)
