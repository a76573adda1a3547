"""What somebody has typed into a search box, as a question to a table.

    task:images.* queue:high tag:file:7 id:3f… args:"two words" error:Timeout since:2h anything else

Every term must hold; `*` stands for anything, a quoted value may have blanks, and a word without a
term is looked for in the id, the arguments and the error. What can't be understood is said, not
guessed.
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
LONGEST_SEARCH, MOST_TERMS = 1000, 20
_PART = re.compile(r'(?:([A-Za-z]+):)?(?:"([^"]*)"|(\S+))')
_AGO = re.compile(r"(\d{1,6})([smhd])")
# No id has a letter that comes after it.
_LAST_CHARACTER = "\U0010ffff"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Search:
    """The terms of a search, in the order typed; `words` have no term."""

    terms: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    text: str = field(default="", compare=False)

    def values(self, name: str) -> list[str]:
        """The values of a term."""
        return [value for called, value in self.terms if called == name]

    def __bool__(self) -> bool:
        return bool(self.terms or self.words or self.since is not None or self.until is not None)


def parse(text: str) -> Search:
    """The search that this text asks for. Raises OptionError."""
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
        elif name and not value.startswith("//"):  # a url is a word
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
    """The conditions on a failed job but for its time. `common`: tags of so many jobs that a walk
    soon meets them.
    """
    # Not in the payload: who may not see a password could find it there, letter by letter.
    timed = search.since is not None or search.until is not None
    return _conditions(
        search,
        failed,
        common,
        {
            # A time has an index of its own, and no database shall take another one for the sake of
            # a queue.
            "task": lambda value: _is(failed.c.task + "" if timed else failed.c.task, value),
            "queue": lambda value: _is(failed.c.queue + "" if timed else failed.c.queue, value),
            "args": lambda value: _has(failed.c.arguments, value),
            "error": lambda value: or_(
                _has(failed.c.exception, value), _has(failed.c.message, value)
            ),
        },
    )


def history_conditions(search: Search, common: Collection[str] = ()) -> list[ColumnElement[bool]]:
    """The conditions on a job that has ended but for its time. `common`: as above."""
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
    """The conditions of a search on an instant."""
    found = [at >= search.since] if search.since is not None else []
    return found + ([at < search.until] if search.until is not None else [])


def id_condition(column: Any, value: str) -> ColumnElement[bool]:
    """The condition on an id; the beginning of one is a range, which every database has an index
    for.
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
    # An id is looked for from its beginning: half of one, copied from a log, is enough.
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
    if (
        "*" in value
    ):  # the row's own list: the tags of all jobs would be read for every window of a walk
        said = json.dumps(value, ensure_ascii=False)[1:-1]
        listed = table.c.tags.like(f'%"{_pattern(said)}"%', escape="/")
        rest = value.partition("*")[2]
        # What the list says of the beginning of a tag is exact; of more it may mean two tags that
        # stand side by side.
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
