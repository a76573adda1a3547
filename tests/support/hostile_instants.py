"""Instants that no calendar has, and those at its edges."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from hypothesis import strategies as st

FIRST = datetime.min.replace(tzinfo=UTC).timestamp()
LAST = datetime.max.replace(tzinfo=UTC).timestamp()
EDGES = (
    FIRST,
    math.nextafter(FIRST, -math.inf),
    LAST,
    math.nextafter(LAST, 0),
    math.nextafter(LAST, math.inf),
    0.0,
    -1.0,
    2.0**31,
    2.0**63,
    1e18,
    -1e18,
    1.7e308,
    -1.7e308,
    math.inf,
    -math.inf,
)


def instants() -> st.SearchStrategy[float]:
    """Any number that a table or a message can hold as an instant, mostly odd ones."""
    return st.sampled_from(EDGES) | st.floats(allow_nan=False) | st.floats(FIRST, LAST)
