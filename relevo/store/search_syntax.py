"""Parses the text of a search box, and turns it into conditions on a table.

    task:images.* queue:high tag:file:7 id:3f… args:"two words" error:Timeout since:2h anything else

Every term must match. `*` stands for any text, and a quoted value may have blanks. A word without a
term is looked for in the id, the task, the arguments and the error. A wrong term is an error, never
a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, exists, or_, select

from relevo import clock
from relevo.errors import OptionError, did_you_mean
from relevo.store.tables import failed, history, tags

TERMS = ("task", "queue", "tag", "id", "args", "error", "since", "until")
#: The longest search in characters, and the most terms and words in it.
LONGEST_SEARCH, MOST_TERMS = 1000, 20
_PART = re.compile(r'(?:([A-Za-z]+):)?(?:"([^"]*)"|(\S+))')
_AGO = re.compile(r"(\d{1,6})([smhd])")
# It sorts after every character of an id.
_LAST_CHARACTER = "\U0010ffff"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Search:
    """A parsed search: terms in the order typed, and `words` without a term."""

    terms: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    text: str = field(default="", compare=False)

    def values(self, name: str) -> list[str]:
        """Return the values of one term."""
        return [value for called, value in self.terms if called == name]

    def __bool__(self) -> bool:
        return bool(self.terms or self.words or self.since is not None or self.until is not None)


def parse(text: str) -> Search:
    """Parse the text of a search. Raises OptionError."""
    text = text.strip()
    if len(text) > LONGEST_SEARCH:
        raise OptionError(
            f"expected a search of at most {LONGEST_SEARCH} characters, got {len(text)}"
        )
    terms: list[tuple[str, str]] = []
    words: list[str] = []
    times: dict[str, float] = {}
    for name, quoted, bare in _PART.findall(text):
        value = quoted or bare
        if name.lower() in ("since", "until"):
            times[name.lower()] = _instant(name, value)
        elif name.lower() in TERMS:
            terms.append((name.lower(), value))
        elif name and not value.startswith("//"):  # a url counts as a word
            raise OptionError(
                f"expected one of {', '.join(TERMS)} before the colon, got {name!r}"
                f'{did_you_mean(name, TERMS)}; to look for a colon, write "{name}:{value}"'
            )
        elif value or name:
            words.append(f"{name}:{value}" if name else value)
    if len(terms) + len(words) > MOST_TERMS:
        raise OptionError(f"expected at most {MOST_TERMS} terms, got {len(terms) + len(words)}")
    return Search(tuple(terms), tuple(words), times.get("since"), times.get("until"), text)


def _instant(name: str, value: str) -> float:
    ago = _AGO.fullmatch(value)
    if ago is not None:
        return clock.now() - int(ago[1]) * _UNITS[ago[2]]
    try:
        return clock.instant(datetime.fromisoformat(value))
    except (ValueError, OverflowError) as error:
        raise OptionError(
            f"expected {name}: to be like 15m, 2h, 7d or 2026-01-31T12:00, got {value!r}"
        ) from error


def failed_conditions(search: Search, common: Collection[str] = ()) -> list[ColumnElement[bool]]:
    """Return the conditions on a failed job, except those on its time.

    `common` are tags that so many jobs have that a scan soon finds some.
    """
    # The payload isn't searched: with it a person could find out a hidden password, letter by
    # letter.
    timed = search.since is not None or search.until is not None
    return _conditions(
        search,
        failed,
        common,
        {
            # The time has an index of its own; the database must not choose that of the queue.
            "task": lambda value: _is(failed.c.task + "" if timed else failed.c.task, value),
            "queue": lambda value: _is(failed.c.queue + "" if timed else failed.c.queue, value),
            "args": lambda value: _has(failed.c.arguments, value),
            "error": lambda value: or_(
                _has(failed.c.exception, value), _has(failed.c.message, value)
            ),
        },
    )


def history_conditions(search: Search, common: Collection[str] = ()) -> list[ColumnElement[bool]]:
    """Return the conditions on an ended job, except those on its time. See `failed_conditions`."""
    return _conditions(
        search,
        history,
        common,
        {
            "task": lambda value: _is(history.c.task, value),
            "queue": lambda value: _is(history.c.queue, value),
            "args": lambda value: _has(history.c.arguments, value),
            "error": lambda value: _has(history.c.message, value),
        },
    )


def time_conditions(search: Search, at: Column[Any]) -> list[ColumnElement[bool]]:
    """Return the conditions of a search on an instant."""
    found = [at >= search.since] if search.since is not None else []
    return found + ([at < search.until] if search.until is not None else [])


def id_condition(column: Any, value: str) -> ColumnElement[bool]:
    """Return the condition on an id.

    A prefix becomes a range, which every database's index knows.
    """
    start, star, rest = value.partition("*")
    if not star or rest or not start:
        return _is(column, value)
    return and_(column >= start, column < start + _LAST_CHARACTER)


def _conditions(
    search: Search,
    table: Any,
    common: Collection[str],
    own: Mapping[str, Callable[[str], ColumnElement[bool]]],
) -> list[ColumnElement[bool]]:
    known: dict[str, Callable[[str], ColumnElement[bool]]] = {
        **own,
        "tag": lambda value: _tagged(table, value, common),
        "id": lambda value: id_condition(table.c.uuid, value),
    }
    found = [known[name](value) for name, value in search.terms]
    # A word matches the beginning of an id: half of one, copied from a log, is enough.
    found += [
        or_(
            table.c.uuid.startswith(word, autoescape=True),
            _has(table.c.task, word),
            own["args"](word),
            own["error"](word),
        )
        for word in search.words
    ]
    return [and_(*found)] if found else []


def _tagged(table: Any, value: str, common: Collection[str]) -> ColumnElement[bool]:
    # With a wildcard, search the row's own list: otherwise each window of a scan would read the
    # tags of all jobs.
    if "*" in value:
        escaped = json.dumps(value, ensure_ascii=False)[1:-1]
        listed = table.c.tags.like(f'%"{_pattern(escaped)}"%', escape="/")
        rest = value.partition("*")[2]
        # The list is exact for the beginning of a tag. With more than a beginning it may match two
        # neighbouring tags, so the tags are looked up as well.
        return and_(
            listed,
            *(
                [table.c.uuid.in_(select(tags.c.uuid).where(_is(tags.c.tag, value)))]
                if rest
                else []
            ),
        )
    if value in common:
        return exists().where(tags.c.tag == value, tags.c.uuid == table.c.uuid)
    return table.c.uuid.in_(select(tags.c.uuid).where(tags.c.tag == value))


def _is(column: Any, value: str) -> ColumnElement[bool]:
    return column.like(_pattern(value), escape="/") if "*" in value else column == value


def _has(column: Any, value: str) -> ColumnElement[bool]:
    return column.like(f"%{_pattern(value)}%", escape="/")


def _pattern(value: str) -> str:
    return re.sub(r"([%_/])", r"/\1", value).replace("*", "%")
