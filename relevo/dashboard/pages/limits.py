"""Limits: which jobs hold a permit, how much of a rate is used, and which jobs wait."""

from __future__ import annotations

from typing import Any

from relevo.dashboard import formatting
from relevo.dashboard.handlers import Action, Page
from relevo.errors import OptionError
from relevo.middleware import limit_context
from relevo.middleware.limit_context import limits_for
from relevo.operations import limits as limit_operations

MOST = 200
LONGEST_KEY = 1000


class LimitsPage(Page):
    """Limits in use, the jobs that hold them and the jobs that wait; the named rates."""

    template, title, tab = "relevo/limits.html", "Limits", "more"
    server_name = "The broker"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        prefix = self.field("q").strip()
        limits = limits_for(self.application.source.driver)
        changed = limits.redefined_rates()
        named = {
            **{
                name: str(rate)
                for name, rate in dict(getattr(self.application.capp, "limits", {})).items()
            },
            **{name: f"{rate} (set by hand)" for name, rate in changed.items()},
        }
        return {"rows": limits.views(prefix, MOST), "named": sorted(named.items()), "q": prefix}

    def as_json(self, values: dict[str, Any]) -> dict[str, Any]:
        return {"limits": values["rows"], "rates": dict(values["named"])}


class SetRate(Action):
    """Change a named rate for all workers; `default`: back to the one in the code."""

    name = "set rate"

    def target(self, *_arguments: str) -> str:
        return f"{self.field('name')} {self.field('rate')}"

    def act(self, *_arguments: str) -> str:
        source, name = self.application.source, self.field("name")
        rate = limit_operations.set_rate(source.app, source.driver, name, self.field("rate"))
        return f"{name}: {rate or 'no rate in the code'} from now on."


class ClearLimit(Action):
    """Forget the use of a key; waiting jobs are tried at once."""

    name = "clear limit"

    def target(self, *_arguments: str) -> str:
        return self.field("key")

    def act(self, *_arguments: str) -> str:
        key, driver = self.field("key"), self.application.source.driver
        if not key or len(key) > LONGEST_KEY:
            raise OptionError(
                f"expected a limit's key of 1 to {LONGEST_KEY} characters, got {key[:60]!r}"
            )
        called = limit_context.clear(driver, key)
        return f"{key} is cleared, {formatting.counted(called, 'waiting job')} called."
