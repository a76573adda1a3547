"""Texts that every database takes: no NUL, no lone surrogates, names no longer than their column.
Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from relevo.database.types import LONGEST_NAME


def storable(text: Any) -> str:
    """A text as a database takes it; what it doesn't take is written out, like a NUL as backslash,
    x, 00.
    """
    if isinstance(text, str) and text.isascii() and "\0" not in text:
        return text
    raw = text if isinstance(text, bytes) else str(text).encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def name(text: Any) -> str:
    """A name, cut where its column ends."""
    return storable(text)[:LONGEST_NAME]


def json_list(items: Sequence[Any]) -> str:
    """A list as the JSON text of its column."""
    return storable(json.dumps(list(items), ensure_ascii=False, default=str))
