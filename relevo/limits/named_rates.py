"""The named rates of an app, from `create_app(limits={"mail": "10/hour"})` or `app.limits.define`.

`celery -A tasks limits set` can replace a rate at run time, for all workers; the store of the
limits keeps that, not this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from relevo.errors import OptionError, UndefinedLimitError, did_you_mean
from relevo.limits.rates import FIXED, Rate

_LONGEST = 100  # characters of a name


class NamedRates(Mapping[str, Rate]):
    """Rates by name. Raises OptionError for a bad name or rate, and for an unknown name."""

    def __init__(self, given: Mapping[str, Any] | None = None) -> None:
        self._rates: dict[str, Rate] = {}
        for name, rate in (given or {}).items():
            self.define(name, rate)

    def define(
        self, name: str, rate: str | Rate, kind: str = FIXED, burst: int | None = None
    ) -> Rate:
        """Give a rate a name: `define("api", "100/minute", "bucket", burst=20)`."""
        check_name(name)
        self._rates[name] = rate if isinstance(rate, Rate) else Rate.of(rate, kind, burst)
        return self._rates[name]

    def __getitem__(self, name: str) -> Rate:
        if name not in self._rates:
            hint = (
                did_you_mean(name, self._rates)
                or f"; known are {', '.join(sorted(self._rates)) or 'none'}"
            )
            raise UndefinedLimitError(f"no limit named {name!r}{hint}")
        return self._rates[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rates)

    def __len__(self) -> int:
        return len(self._rates)

    def __contains__(self, name: object) -> bool:
        return name in self._rates


def check_name(name: str) -> None:
    """Raise OptionError for a bad name of a limit. Names stand between slashes in keys."""
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= _LONGEST
        or "/" in name
        or not name.isprintable()
    ):
        raise OptionError(
            f"expected a limit's name to be 1 to {_LONGEST} characters without '/', "
            f"got {name!r:.150}"
        )
