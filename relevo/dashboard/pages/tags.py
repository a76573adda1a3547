"""Tags: those that are watched with how many jobs have them, and those that jobs had lately."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from relevo.dashboard.handlers import Action, Page
from relevo.dashboard.sources import Source
from relevo.errors import OptionError
from relevo.store import watched_tags

LONGEST = 255
#: More is not counted: a row is read for each.
MANY = 1000
#: Seconds for which tags are counted for one answer, about, and for which a count is good.
COUNTS_FOR, FRESH = 0.12, 30.0


class TagsPage(Page):
    """Tags that are watched, and those that jobs had lately."""

    template, title, tab = "relevo/tags_page.html", "Tags", "tags"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        source = self.application.source
        mine = watched_tags.list_all(source.store)
        lately = source.remembered(("tags",), 5, lambda: watched_tags.find_recent(source.store))
        others = [tag for tag in lately if tag not in mine]
        names = (*mine, *others)
        counted = count(source, names)
        return {
            "watched": mine,
            "others": others,
            "most": MANY,
            "jobs": {tag: two[0] for tag, two in counted.items()},
            "failures": {tag: two[1] for tag, two in counted.items()},
        }

    def told(self, values: dict[str, Any]) -> dict[str, Any]:
        names = [*values["watched"], *values["others"]]
        return {
            "tags": [
                {
                    "tag": tag,
                    "watched": tag in values["watched"],
                    "jobs": values["jobs"].get(tag),
                    "failed": values["failures"].get(tag),
                }
                for tag in names
            ]
        }


def count(source: Source, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """How many jobs and failed jobs tags have, as far as they can be counted in a moment: the rest
    at the next look.
    """
    until, counted = time.monotonic() + COUNTS_FOR, dict[str, tuple[int, int]]()
    for tag in names:
        if not counted or source.remembers(("tag", tag)) or time.monotonic() < until:
            counted[tag] = source.remembered(("tag", tag), FRESH, lambda tag=tag: _two(source, tag))  # type: ignore[misc]
    return counted


def _two(source: Source, tag: str) -> tuple[int, int]:
    return (
        watched_tags.count_jobs(source.store, [tag], MANY)[tag],
        watched_tags.count_failed(source.store, [tag], MANY)[tag],
    )


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
        watched_tags.watch(self.application.source.store, self.tag())
        return f"{self.tag()} is watched."


class Unwatch(OfTag):
    """No longer."""

    name = "unwatch tag"

    def act(self, *_arguments: str) -> str:
        watched_tags.unwatch(self.application.source.store, self.tag())
        return f"{self.tag()} is no longer watched."
