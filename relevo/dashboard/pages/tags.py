"""Tags: the watched ones and those of recent jobs, with how many jobs have each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from relevo.dashboard.handlers import Action, Page
from relevo.dashboard.sources import Source
from relevo.errors import OptionError
from relevo.store import watched_tags

LONGEST = 255
#: The most jobs of a tag that are counted: each costs reading a row.
MOST_COUNTED = 1000
#: About how long one request counts, and how long a count is cached.
COUNT_SECONDS, CACHE_SECONDS = 0.12, 30.0


class TagsPage(Page):
    """Watched tags, and tags of recent jobs."""

    template, title, tab = "relevo/tags_page.html", "Tags", "tags"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        source = self.application.source
        mine = watched_tags.list_all(source.store)
        lately = source.cached(("tags",), 5, lambda: watched_tags.find_recent(source.store))
        others = [tag for tag in lately if tag not in mine]
        names = (*mine, *others)
        counted = count(source, names)
        return {
            "watched": mine,
            "others": others,
            "most": MOST_COUNTED,
            "jobs": {tag: two[0] for tag, two in counted.items()},
            "failures": {tag: two[1] for tag, two in counted.items()},
        }

    def as_json(self, values: dict[str, Any]) -> dict[str, Any]:
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
    """How many jobs and failed jobs each tag has.

    Tags for which the time of this request is not enough are missing; the next request counts them.
    """
    until, counted = time.monotonic() + COUNT_SECONDS, dict[str, tuple[int, int]]()
    for tag in names:
        if not counted or source.has_cached(("tag", tag)) or time.monotonic() < until:
            counted[tag] = source.cached(("tag", tag), CACHE_SECONDS, partial(_counts, source, tag))
    return counted


def _counts(source: Source, tag: str) -> tuple[int, int]:
    return (
        watched_tags.count_jobs(source.store, [tag], MOST_COUNTED)[tag],
        watched_tags.count_failed(source.store, [tag], MOST_COUNTED)[tag],
    )


class TagAction(Action):
    """An action on the tag that the form names."""

    def target(self, *_arguments: str) -> str:
        return self.field("tag")

    def tag(self) -> str:
        """The tag. Raises OptionError."""
        tag = self.field("tag")
        if not tag.strip() or len(tag) > LONGEST:
            raise OptionError(f"expected a tag of 1 to {LONGEST} characters, got {tag[:60]!r}")
        return tag


class WatchTag(TagAction):
    """Watch a tag."""

    name = "watch tag"

    def act(self, *_arguments: str) -> str:
        watched_tags.watch(self.application.source.store, self.tag())
        return f"{self.tag()} is watched."


class UnwatchTag(TagAction):
    """Stop watching a tag."""

    name = "unwatch tag"

    def act(self, *_arguments: str) -> str:
        watched_tags.unwatch(self.application.source.store, self.tag())
        return f"{self.tag()} is no longer watched."
