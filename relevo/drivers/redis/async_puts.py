"""Puts of asyncio's callers: jobs that are put at the same time go to Redis together.

    caller, caller, caller -> waiting -> one sender for each event loop -> put.lua

The first put goes at once. Those that come before its answer go with the next, in one script: 100
at once cost a fraction of 100 one by one. A group is put whole or not at all. While Redis is away
it is tried again under the same number (idempotency.py), so a lost answer makes no second job.

The sender's connection is closed by the loop's own end: `asyncio.run` closes all asynchronous
generators, and one of them holds it.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from redis import ConnectionPool
from redis import connection as sync
from redis.asyncio import ConnectionPool as AsyncPool
from redis.asyncio import Redis
from redis.asyncio import connection as asynchronous
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from relevo.drivers.redis import replies
from relevo.drivers.redis.connection import translated
from relevo.drivers.redis.idempotency import PutRequests
from relevo.drivers.redis.scripts import digest, source
from relevo.drivers.values import NewJob, Placed
from relevo.errors import DriverUnavailableError

# The most jobs of one group: about 20 ms of Redis's time.
GROUP = 500
# Sentinel's connections have no counterpart here: a thread puts for them.
_KINDS: dict[type, type] = {
    sync.Connection: asynchronous.Connection,
    sync.SSLConnection: asynchronous.SSLConnection,
    sync.UnixDomainSocketConnection: asynchronous.UnixDomainSocketConnection,
}
_Fields = Callable[[Sequence[NewJob]], list[str | int | bytes]]


class AsyncPuts:
    """The puts of all event loops of this process. `fields` writes jobs as `put.lua` takes them."""

    def __init__(
        self, pool: ConnectionPool, begin: Callable[[], tuple[str, str]], fields: _Fields
    ) -> None:
        self._pool, self._begin, self._fields = pool, begin, fields
        self._senders: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Sender] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def is_possible(self) -> bool:
        """Whether there are connections of this kind for asyncio."""
        return self._pool.connection_class in _KINDS

    async def put(self, job: NewJob, waits: Iterable[float] = ()) -> Placed:
        """Put a job; while Redis is away, again after each of `waits` (seconds).

        Raises DriverError. A caller that is cancelled doesn't take its job back.
        """
        loop = asyncio.get_running_loop()
        sender = self._senders.get(loop)
        if sender is None:
            sender = self._senders[loop] = _Sender(self)
        return await sender.put(job, waits)

    async def put_group(
        self, client: Redis, jobs: Sequence[NewJob], requests: PutRequests
    ) -> list[Placed]:
        """Put jobs by this client, once."""
        request = requests.request_number([(job.queue, job.id) for job in jobs])
        given = (*self._begin(), f"{requests.thread}.0", request, *self._fields(jobs))
        with translated():
            try:
                answer = await client.evalsha(digest("put"), 1, *given)
            except NoScriptError:
                answer = await client.eval(source("put"), 1, *given)
        requests.confirm()
        return replies.placed(answer)

    async def connections(self) -> AsyncIterator[Redis]:
        """The client of one event loop, again and again; closed with the generator."""
        kind = _KINDS[self._pool.connection_class]
        known = _parameters(kind)
        given = {
            name: value for name, value in self._pool.connection_kwargs.items() if name in known
        }
        given["retry"] = Retry(NoBackoff(), 0)
        client = Redis(connection_pool=AsyncPool(connection_class=kind, **given))
        try:
            while True:
                yield client
        finally:
            # The generator holds its loop, so the loop's entry would never go by itself.
            self._senders.pop(asyncio.get_running_loop(), None)
            await client.connection_pool.disconnect()


class _Sender:
    """Puts the jobs of one event loop, group after group."""

    def __init__(self, puts: AsyncPuts) -> None:
        self._puts = puts
        self._connections: AsyncIterator[Redis] | None = None
        self._requests = PutRequests()
        self._waiting: list[tuple[NewJob, asyncio.Future[Placed]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def put(self, job: NewJob, waits: Iterable[float]) -> Placed:
        answer: asyncio.Future[Placed] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send(tuple(waits)))
        return await answer

    async def _send(self, waits: tuple[float, ...]) -> None:
        group: list[tuple[NewJob, asyncio.Future[Placed]]] = []
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
                try:
                    placed = await self._put_patiently([job for job, _ in group], waits)
                except Exception as error:  # noqa: BLE001  each caller gets it
                    for _, answer in group:
                        if not answer.done():
                            answer.set_exception(error)
                else:
                    for (_, answer), place in zip(group, placed, strict=True):
                        if not answer.done():  # its caller was cancelled
                            answer.set_result(place)
        finally:
            self._sending = None
            for _, answer in (*group, *self._waiting):
                answer.cancel()  # only when this task is cancelled: all others have their answer
            self._waiting = []

    async def _put_patiently(self, jobs: list[NewJob], waits: Iterable[float]) -> list[Placed]:
        for wait in waits:
            try:
                return await self._put(jobs)
            except DriverUnavailableError:
                await asyncio.sleep(wait)
        return await self._put(jobs)

    async def _put(self, jobs: list[NewJob]) -> list[Placed]:
        if self._connections is None:
            self._connections = self._puts.connections()
        client = await anext(self._connections)
        return await self._puts.put_group(client, jobs, self._requests)


def _parameters(kind: type) -> set[str]:
    """The arguments that a class of connections takes."""
    return {name for base in kind.__mro__[:-1] for name in inspect.signature(base).parameters} - {
        "kwargs",
        "args",
    }
