"""Makes texts that every database and broker takes: no NUL, no lone surrogate, no long name. Pure.

The texts of users' code come through here where they come in: errors, reasons, tags, arguments as
text, messages. Half a surrogate pair is no rarity: Python reads a file name that is no UTF-8 as a
text with one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from relevo.database.types import LONGEST_NAME


def storable(text: Any) -> str:
    """Return a text that every database takes. A character that one refuses becomes an escape.

    A NUL, for example, becomes a backslash, `x` and `00`. In JSON, which has no raw NUL, the escape
    is JSON's own, so a reader gets the character back.
    """
    if isinstance(text, str) and text.isascii() and "\0" not in text:
        return text
    raw = text if isinstance(text, bytes) else str(text).encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def name(text: Any) -> str:
    """Return a name, cut to the length of its column."""
    return storable(text)[:LONGEST_NAME]


def json_list(items: Sequence[Any]) -> str:
    """Return a list as a JSON text for its column."""
    return storable(json.dumps(list(items), ensure_ascii=False, default=str))
