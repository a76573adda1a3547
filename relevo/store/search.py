"""What somebody has typed into a search box, as a question to a table.

    task:images.* queue:high tag:file:7 id:3f… args:"two words" error:Timeout since:2h anything else

Every term must hold; `*` stands for anything, a quoted value may have blanks, and a word without a term is looked for
in the id, the arguments and the error. What can't be understood is said, not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, exists, or_, select

from relevo import clock
from relevo.errors import OptionError, did_you_mean
from relevo.store.tables import failed, history, tags

TERMS = ("task", "queue", "tag", "id", "args", "error", "since", "until")
LONGEST, MOST = 1000, 20
_PART = re.compile(r'(?:([A-Za-z]+):)?(?:"([^"]*)"|(\S+))')
_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Search:
    """The terms of a search, in the order typed; `words` have no term."""

    terms: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    text: str = field(default="", compare=False)

    @property
    def reads_all(self) -> bool:
        """Whether it may have to look through every job: for words in texts, or for a pattern."""
        return bool(self.words) or any(name in ("args", "error") or "*" in value for name, value in self.terms)

    def __bool__(self) -> bool:
        return bool(self.terms or self.words or self.since is not None or self.until is not None)


def parse(text: str) -> Search:
    """The search that this text asks for. Raises OptionError."""
    text = text.strip()
    if len(text) > LONGEST:
        raise OptionError(f"expected a search of at most {LONGEST} characters, got {len(text)}")
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
            raise OptionError(f"expected one of {', '.join(TERMS)} before the colon, got {name!r}"
                              f'{did_you_mean(name, TERMS)}; to look for a colon, write "{name}:{value}"')  # fmt: skip
        elif value or name:
            words.append(f"{name}:{value}" if name else value)
    if len(terms) + len(words) > MOST:
        raise OptionError(f"expected at most {MOST} terms, got {len(terms) + len(words)}")
    return Search(tuple(terms), tuple(words), times.get("since"), times.get("until"), text)


def _instant(name: str, value: str) -> float:
    ago = _AGO.fullmatch(value)
    if ago is not None:
        return clock.now() - int(ago[1]) * _UNITS[ago[2]]
    try:
        return clock.instant(datetime.fromisoformat(value))
    except (ValueError, OverflowError) as error:
        raise OptionError(f"expected {name}: to be like 15m, 2h, 7d or 2026-01-31T12:00, got {value!r}") from error


def of_failed(search: Search) -> list[ColumnElement[bool]]:
    """The conditions on a failed job."""
    # Not in the payload: who may not see a password could find it there, letter by letter.
    return _conditions(search, failed, failed.c.failed_at, {
        "args": lambda value: _has(failed.c.arguments, value),
        "error": lambda value: or_(_has(failed.c.exception, value), _has(failed.c.message, value)),
    })  # fmt: skip


def of_history(search: Search, common: Collection[str] = ()) -> list[ColumnElement[bool]]:
    """The conditions on a job that has ended. `common`: tags that so many jobs have that a walk soon meets them."""
    walked = [value for name, value in search.terms if name == "tag" and value in common]
    has_it = [exists().where(tags.c.tag == tag, tags.c.uuid == history.c.uuid) for tag in walked]
    rest = tuple(term for term in search.terms if term not in {("tag", tag) for tag in walked})
    return has_it + _conditions(replace(search, terms=rest), history, history.c.ended_at, {
        "args": lambda value: _has(history.c.arguments, value),
        "error": lambda value: _has(history.c.message, value),
    })  # fmt: skip


def _conditions(
    search: Search, table: Any, at: Column[Any], own: Mapping[str, Callable[[str], ColumnElement[bool]]]
) -> list[ColumnElement[bool]]:
    known: dict[str, Callable[[str], ColumnElement[bool]]] = {
        **own,
        "task": lambda value: _is(table.c.task, value),
        "queue": lambda value: _is(table.c.queue, value),
        "tag": lambda value: table.c.uuid.in_(select(tags.c.uuid).where(_is(tags.c.tag, value))),
        "id": lambda value: _is(table.c.uuid, value),
    }
    found = [known[name](value) for name, value in search.terms]
    # An id is looked for from its beginning: half of one, copied from a log, is enough.
    found += [or_(table.c.uuid.startswith(word, autoescape=True), _has(table.c.task, word), own["args"](word),
                  own["error"](word)) for word in search.words]  # fmt: skip
    found += [at >= search.since] if search.since is not None else []
    found += [at < search.until] if search.until is not None else []
    return [and_(*found)] if found else []


def _is(column: Any, value: str) -> ColumnElement[bool]:
    return column.like(_pattern(value), escape="/") if "*" in value else column == value


def _has(column: Any, value: str) -> ColumnElement[bool]:
    return column.like(f"%{_pattern(value)}%", escape="/")


def _pattern(value: str) -> str:
    return re.sub(r"([%_/])", r"/\1", value).replace("*", "%")
