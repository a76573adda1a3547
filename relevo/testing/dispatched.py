"""One dispatched job as a test sees it, made from the message that would have been sent.

The message is Celery's own, with its routing, headers and checks. So the record holds what a worker
would have received, and an argument that can't be serialized fails the dispatch as in production.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from kombu import serialization

from relevo import clock
from relevo.drivers import message_codec
from relevo.drivers.contract import HIGHEST_PRIORITY
from relevo.job import payload
from relevo.task import Task
from relevo.testing.canvas_shapes import Steps, call, shown, step, steps

#: The header of a link of an `app.chain`: the chain's id.
CHAIN = "relevo_fake_chain"
_RELEVO_HEADERS = (payload.HEADER, CHAIN)


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A job that was dispatched and not sent.

    `delay`: seconds from the dispatch, None for at once. `options`: those in the message (`tries`,
    `timeout`, `expires`, `priority` …). `headers`: the caller's own. `chain`: the steps that
    follow. `group`: the id that the members of one group share. `chord`: the steps after the group.
    `attempt`: 1 unless the job was released.
    """

    id: str
    task: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    queue: str
    delay: float | None
    eta: datetime | None
    options: Mapping[str, Any]
    tags: tuple[str, ...]
    headers: Mapping[str, Any]
    chain: Steps
    group: str | None
    chord: Steps
    links: Steps
    dispatched_at: float
    expires_at: float | None
    parent: str | None
    attempt: int
    body: tuple[Any, ...] = field(repr=False)
    message: Mapping[str, Any] = field(repr=False)

    @property
    def available_at(self) -> float:
        """The time at which the job may run, in POSIX seconds."""
        return self.dispatched_at + (self.delay or 0)

    @property
    def priority(self) -> int:
        """0 runs first."""
        return int(self.options.get("priority") or HIGHEST_PRIORITY)

    @property
    def steps(self) -> Steps:
        """The job itself and the steps that follow it."""
        return (step(self.task, self.args, self.kwargs), *self.chain)

    def released(self, headers: Mapping[str, Any], seconds: float) -> Dispatched:
        """The job as it waits for its next attempt."""
        message = {**self.message, **headers}
        changed = {
            "message": message,
            "attempt": message["retries"] + 1,
            "dispatched_at": clock.now(),
        }
        return replace(self, delay=seconds or None, **changed)

    def __str__(self) -> str:
        said = [f"{call(self.task, self.args, self.kwargs)} on {self.queue!r}"]
        said += [f"delayed {self.delay:g} s"] if self.delay else []
        said += [f"{name}={value!r}" for name, value in self.options.items()]
        said += [f"tags {list(self.tags)!r}"] if self.tags else []
        said += [f"followed by {shown(self.chain)}"] if self.chain else []
        said += [f"in group {self.group[:8]}"] if self.group else []
        said += [f"whose results go to {shown(self.chord)}"] if self.chord else []
        return ", ".join(said)


def from_message(
    app: Any, name: str, message: Any, asked: Mapping[str, Any], sent: Mapping[str, Any]
) -> Dispatched:
    """The record of Celery's `message`.

    `asked`: the arguments of `send_task`; `sent`: those that it passed on with the message.
    """
    headers = {**message.headers, **(sent.get("headers") or {})}
    args, kwargs, embed = message.body
    chain = tuple(reversed(embed["chain"] or ()))
    ends = [embed, *(link.get("options", {}) for link in chain)]
    now = clock.now()
    return Dispatched(
        id=headers["id"],
        task=name,
        args=tuple(args),
        kwargs=dict(kwargs),
        queue=_queue(app, sent),
        delay=_delay(asked, headers, now),
        eta=asked["eta"] if isinstance(asked.get("eta"), datetime) else None,
        options=_options(app, headers, sent),
        tags=_tags(app, name, headers, args, kwargs),
        headers={
            key: value
            for key, value in (sent.get("headers") or {}).items()
            if key not in _RELEVO_HEADERS
        },
        chain=steps(chain),
        group=headers["group"] or _first(ends, "group_id"),
        chord=steps(_first(ends, "chord") or []),
        links=steps(embed["callbacks"] or []),
        dispatched_at=now,
        expires_at=_instant(asked.get("expires") or headers["expires"], now),
        parent=headers["parent_id"],
        attempt=headers["retries"] + 1,
        body=_as_received(app, message.body, sent),
        message=headers,
    )


def _as_received(app: Any, body: Any, sent: Mapping[str, Any]) -> tuple[Any, ...]:
    """The body, serialized and read again. Raises kombu's EncodeError, as a real dispatch does."""
    kind, encoding, data = serialization.dumps(
        body, sent.get("serializer") or app.conf.task_serializer
    )
    return tuple(serialization.loads(data, kind, encoding, accept=[kind]))


def _queue(app: Any, sent: Mapping[str, Any]) -> str:
    queue = sent.get("queue") or sent.get("routing_key") or app.conf.task_default_queue
    return str(getattr(queue, "name", queue))


def _delay(asked: Mapping[str, Any], headers: Mapping[str, Any], now: float) -> float | None:
    """Seconds until the job may run: the given number, or computed from the given date."""
    due = _instant(asked.get("eta"), now)
    wait = (
        asked.get("countdown")
        or (due and due - now)
        or message_codec.unique_of(headers).get("wait")
    )
    return float(wait) if wait and wait > 0 else None


def _instant(moment: Any, now: float) -> float | None:
    """A moment in any form that Celery accepts, as POSIX seconds."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if isinstance(moment, datetime):
        return clock.instant(moment)
    return None if moment is None else now + float(moment)


def _options(app: Any, headers: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    timeout, soft = headers["timelimit"]
    said = {
        **(headers.get(payload.HEADER) or {}).get("override", {}),
        "timeout": timeout,
        "soft_time_limit": soft,
        "expires": sent.get("expiration"),
        "ignore_result": headers["ignore_result"] or None,
        "shadow": headers["shadow"],
        **{name: sent.get(name) for name in ("priority", "serializer", "compression", "exchange")},
    }
    usual = {"serializer": app.conf.task_serializer}
    return {
        name: value
        for name, value in said.items()
        if value is not None and value != usual.get(name)
    }


def _tags(
    app: Any, name: str, headers: Mapping[str, Any], args: Any, kwargs: Any
) -> tuple[str, ...]:
    """The tags in the message; for a job sent by its name alone, those that its task computes."""
    travelling = (headers.get(payload.HEADER) or {}).get("tags")
    task = app.tasks.get(name)
    if travelling is None and isinstance(task, Task):
        travelling = payload.tags(task, tuple(args), kwargs)
    return tuple(travelling or ())


def _first(ends: list[Any], name: str) -> Any:
    """An option of the last link that has it: the group waits for a chain's last link."""
    return next((end[name] for end in reversed(ends) if end.get(name)), None)
