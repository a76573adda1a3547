"""Tags: those that are watched with how many jobs have them, and those that jobs had lately."""

from __future__ import annotations

from typing import Any

from relevo.dashboard.pages import Action, Page
from relevo.errors import OptionError
from relevo.store import watched

LONGEST = 255


class TagsPage(Page):
    """/tags"""

    template, title, tab = "relevo/tags_page.html", "Tags", "tags"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        source = self.application.source
        mine = watched.listed(source.store)
        lately = source.remembered(("tags",), 5, lambda: watched.recent(source.store))
        others = [tag for tag in lately if tag not in mine]
        names = (*mine, *others)
        jobs, failures = source.remembered(
            ("tag counts", names), 3,
            lambda: (watched.counts(source.store, names), watched.failures(source.store, names)) if names else ({}, {}),
        )  # fmt: skip
        return {"watched": mine, "others": others, "jobs": jobs, "failures": failures,
                "most": watched.MANY}  # fmt: skip


    def told(self, values: dict[str, Any]) -> dict[str, Any]:
        names = [*values["watched"], *values["others"]]
        return {"tags": [{"tag": tag, "watched": tag in values["watched"], "jobs": values["jobs"].get(tag, 0),
                          "failed": values["failures"].get(tag, 0)} for tag in names]}  # fmt: skip


class OfTag(Action):
    """An action on the tag that the form names."""

    def target(self, *_arguments: str) -> str:
        return self.field("tag")

    def tag(self) -> str:
        """The tag. Raises OptionError."""
        tag = self.field("tag")
        if not tag.strip() or len(tag) > LONGEST:
            raise OptionError(f"expected a tag of 1 to {LONGEST} characters, got {tag[:60]!r}")
        return tag


class Watch(OfTag):
    """Keep an eye on a tag."""

    name = "watch tag"

    def act(self, *_arguments: str) -> str:
        watched.watch(self.application.source.store, self.tag())
        return f"{self.tag()} is watched."


class Unwatch(OfTag):
    """No longer."""

    name = "unwatch tag"

    def act(self, *_arguments: str) -> str:
        watched.unwatch(self.application.source.store, self.tag())
        return f"{self.tag()} is no longer watched."
