"""Change a named rate while workers run (`limits rate NAME 10/hour`).

The new rate is stored beside the jobs, so it counts for all workers from the next job on, also
after a restart. The code's rate counts again when DEFAULT is set.
"""

from __future__ import annotations

from typing import Any

from relevo.drivers.contract import Driver
from relevo.errors import UndefinedLimitError
from relevo.limits.named_rates import check_name
from relevo.limits.rates import Rate
from relevo.middleware.limit_context import limits_for, named_rates, wake

#: Given instead of a rate: take the one in the code again.
DEFAULT = "default"


def set_rate(
    app: Any,
    driver: Driver,
    name: str,
    rate: str,
    kind: str | None = None,
    burst: int | None = None,
) -> Rate | None:
    """Set the rate of a name for all workers. Returns it; None if DEFAULT ends a rate without code.

    Wakes the jobs that wait for it: by the old rate their turn may be a day away.
    Raises UndefinedLimitError for a name that the app doesn't define.
    """
    check_name(name)
    code = dict(named_rates(app)).get(name)
    if rate.strip() == DEFAULT:
        new, set_to = code, None
    elif code is None:
        known = ", ".join(sorted(named_rates(app))) or "none"
        raise UndefinedLimitError(f"no limit named {name!r}; known are {known}")
    else:
        new = set_to = Rate.of(rate, kind or code.kind, burst)
    wake(driver, limits_for(driver).redefine(name, set_to))
    return new
