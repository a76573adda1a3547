"""The requested sizes of a picture: name -> longest edge in pixels. They are checked before any
work is done.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from relevo.errors import OptionError

DEFAULT_SIZES = {"thumbnail": 150, "medium": 500, "large": 1024}

# Lower case only: a name becomes a file's name and a unique key, and some file systems and
# databases take "Large" and "large" for the same.
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
MAX_EDGE = 8192
MAX_SIZES = 20


def validate_sizes(given: Mapping[str, int] | None) -> dict[str, int]:
    """The requested sizes (the default ones for None), largest first. Raises OptionError for bad
    ones.
    """
    if given is None:
        given = DEFAULT_SIZES
    if not isinstance(given, Mapping):
        raise OptionError(
            f"expected sizes to map a name to its longest edge in pixels, got {given!r:.80}"
        )
    if not 1 <= len(given) <= MAX_SIZES:
        raise OptionError(f"expected 1 to {MAX_SIZES} sizes, got {len(given)}")
    for name, edge in given.items():
        _check(name, edge)
    return dict(sorted(given.items(), key=lambda item: -item[1]))


def _check(name: Any, edge: Any) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise OptionError(
            f"expected a size's name to be 1 to 40 of a-z, 0-9, '-' and '_', got {name!r:.80}"
        )
    if isinstance(edge, bool) or not isinstance(edge, int) or not 1 <= edge <= MAX_EDGE:
        raise OptionError(
            f"expected the size {name!r} to be 1 to {MAX_EDGE} pixels, got {edge!r:.80}"
        )
