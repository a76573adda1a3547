"""Makes the messages of a batch's members: the first of a kind by Celery, the others from its copy.

Two members are of one kind if they have the same task and the same options. Their messages differ
in the id, the arguments and the place in the batch (relevo/dispatch/message_template.py). Where a
message could differ in more (a route that is a function, a receiver of Celery's publish signals,
tags, a fake), Celery makes every one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from celery.canvas import Signature

from relevo.dispatch.capture import captured_jobs
from relevo.dispatch.message_template import MessageTemplate, can_use_templates, has_receivers
from relevo.drivers import message_codec
from relevo.drivers.values import Conflict, NewJob
from relevo.job import membership
from relevo.job.membership import Membership
from relevo.job.options import OVERRIDES

# A member with one of these options gets its message from Celery.
_UNIQUE_OPTIONS = frozenset(
    {
        "countdown",
        "eta",
        "expires",
        "link",
        "link_error",
        "chord",
        "group_id",
        "group_index",
        "headers",
        "task_id",
        "serializer",
        "compression",
        "reply_to",
        "stamped_headers",
    }
)


class MessageFactory:
    """Makes the messages of one batch's members. `options` go to each member that has none of its
    own.
    """

    def __init__(self, app: Any, options: Mapping[str, Any]) -> None:
        self.app, self.options = app, dict(options)
        self._templates: dict[str, _MemberTemplate] = {}
        self._use_templates = (
            can_use_templates(app) and not has_receivers() and "send_task" not in vars(app)
        )

    def build(self, member: Signature, uuid: str, place: Membership) -> NewJob:
        """The job of a member, with this id and this place."""
        if not self._use_templates or not self._is_plain(member):
            return self.build_by_celery(member, uuid, place)
        key = f"{member['task']} {member['immutable']} {member['options'] or ''}"
        template = self._templates.get(key)
        if template is None:
            job = self.build_by_celery(member, uuid, place)
            self._templates[key] = _MemberTemplate(self.app.tasks[member["task"]], job)
            return job
        if template.is_plain:
            return template.build(member, uuid, place)
        return self.build_by_celery(member, uuid, place)

    def build_by_celery(self, member: Signature, uuid: str, place: Membership) -> NewJob:
        """The same, made by Celery."""
        own = dict(member.options)
        headers = membership.with_places(own.pop("headers", None), place)
        single = member.clone()
        single.options = {**self.options, **own}
        [job] = captured_jobs(
            self.app, single, headers=headers, **({} if "task_id" in own else {"task_id": uuid})
        )
        # A debounced member need not wait: no later dispatch replaces it.
        latest = job.on_conflict is Conflict.LATEST
        # No unique key: a member that was left out as a duplicate would never end.
        return replace(job, unique_key=None, available_at=None if latest else job.available_at)

    def _is_plain(self, member: Signature) -> bool:
        options = member["options"]
        if options and not (_UNIQUE_OPTIONS.isdisjoint(options) and OVERRIDES.isdisjoint(options)):
            return False
        task = self.app.tasks.get(member["task"])
        return getattr(task, "plain_dispatch", False) and not task.options.needs_baton


class _MemberTemplate(MessageTemplate):
    """The message of a member, with gaps for the values that differ by member."""

    def __init__(self, task: Any, job: NewJob) -> None:
        head = message_codec.headers_of(job.payload)
        #: The header that is the member's own id, unless the batch is dispatched by another job.
        self._root = ("root_id",) if head.get("root_id") == head.get("id") else ()
        self._check = getattr(task, "__header__", None) if task.typing else None
        super().__init__(task, job, (membership.MEMBER_HEADER, *self._root))

    def build(self, member: Signature, uuid: str, place: Membership) -> NewJob:
        """The job of another member of this kind."""
        args, kwargs = tuple(member["args"] or ()), member["kwargs"] or {}
        if self._check is not None:
            self._check(*args, **kwargs)
        differing = {membership.MEMBER_HEADER: [place.header()], **dict.fromkeys(self._root, uuid)}
        return self.fill(uuid, args, kwargs, differing)
