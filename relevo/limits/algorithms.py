"""The steps at a limit, for the stores in Python: the database's and the one in memory.

A store hands in the record of one key while it holds the key's lock. `redis/lua` has the same steps
in Lua.
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
    """One key of a store: its state, its permits and its waiting jobs."""

    #: The state of its rate or breaker: lists of numbers and texts. None is not stored.
    state: Any

    def has_waiters(self) -> bool:
        """Whether any job waits."""

    def holders(self) -> Sequence[str]:
        """The tokens of the held permits. Permits of leases that are gone are deleted here."""

    def add_permit(self, holder: Holder, now: float) -> None: ...

    def remove_permit(self, token: str) -> None: ...

    def waiter(self, job_id: str) -> Waiter | None: ...

    def expected(self, after: float, until: float) -> Sequence[Waiter]:
        """The waiting jobs that became due after the first instant and up to the second."""

    def count_later(self, now: float) -> int:
        """How many waiting jobs are due later than now."""

    def count_earlier(self, since: float) -> int:
        """How many jobs have waited since before `since`."""

    def next_waiters(self, now: float, most: int) -> Sequence[str]:
        """The ids of the first waiting jobs that are due later than now."""

    def missed_waiters(self, before: float, most: int) -> Sequence[str]:
        """The ids of the first waiting jobs that were due before an instant and haven't come."""

    def put_waiter(self, waiter: Waiter) -> None:
        """Let a job wait, or change its times."""

    def remove_waiter(self, job_id: str) -> None: ...

    def remove_late_waiters(self, before: float) -> None:
        """Remove the waiting jobs that were due before an instant and haven't come."""


def take(record: Record, at_most: int, holder: Holder, now: float) -> float:
    """Take a permit (returns 0), or wait in line (returns for how many seconds to stay away)."""
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
    """Give a permit back. Returns the ids of the waiting jobs that are due now."""
    record.remove_permit(holder.token)
    return call_next(record, at_most, now)


def call_next(record: Record, at_most: int, now: float) -> list[str]:
    """Make as many waiting jobs due as there are free permits. Returns their ids."""
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
        waiter = record.waiter(job_id)
        record.put_waiter(Waiter(job_id, waiter.since if waiter else now, now))
    # With room left: call jobs again that were called and haven't come. Their call was lost, or the
    # job is gone.
    if room > len(called):
        called += record.missed_waiters(now - waiters.GRACE, room - len(called))
    return called


def take_free(record: Record, wanted: Sequence[PermitRequest], now: float) -> set[str]:
    """Take free permits of one key, if no job waits. Returns the tokens that have a permit."""
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
    record: Record, at_most: int, handovers: Sequence[PermitHandover], now: float
) -> HandoverResult:
    """Give permits of one key back, or to other jobs."""
    held, without = set(record.holders()), set()
    for each in handovers:
        token = each.request.holder.token
        was_held = token in held
        if was_held:
            record.remove_permit(token)
            held.discard(token)
        # A token that is held already: the permit was handed over, and the answer was lost.
        if each.to is not None and each.to.token not in held:
            if was_held or (len(held) < each.request.at_most and not record.has_waiters()):
                record.add_permit(each.to, now)
                held.add(each.to.token)
            else:
                without.add(each.to.token)
    crowded = {handovers[0].request.key} if record.has_waiters() else set()
    return HandoverResult(call_next(record, at_most, now), crowded, without)


def by_key(items: Iterable[Item], key: Callable[[Item], str]) -> list[tuple[str, list[Item]]]:
    """Items by their keys, in the one order in which keys are locked."""
    found: dict[str, list[Item]] = {}
    for item in items:
        check_key(key(item))
        found.setdefault(key(item), []).append(item)
    return sorted(found.items())


def hit(record: Record, rate: Rate, cost: float, job_id: str, now: float) -> float:
    """Take units of a rate (returns 0), or wait in line (returns the seconds to stay away)."""
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
    """Give units of a rate back. Returns the ids of the waiting jobs that are due now."""
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
    """For how many seconds a job must wait, and whether errors are counted."""
    wait, mine = breakers.seconds_left(record.state, now), record.waiter(job_id)
    if wait:
        record.remove_late_waiters(now - waiters.FORGET)
        record.put_waiter(Waiter(job_id, mine.since if mine else now, now + wait))
    elif mine:
        record.remove_waiter(job_id)
    return wait, record.state is not None


def record_error(record: Record, breaker: Breaker, now: float) -> float:
    """Count an error. Returns for how many seconds jobs must wait now."""
    record.state = breakers.after_error(record.state, breaker, now)
    return breakers.seconds_left(record.state, now)
