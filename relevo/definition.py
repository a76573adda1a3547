"""Where tasks are defined: a wrong option is an error of the line that says it.

Celery makes a task when it is first used, or when the app is finalized; until then a bad definition
would be silent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import celery

from relevo.dispatch import builder, unique
from relevo.errors import OptionError
from relevo.job.options import NAMES, POLICY, Options

if TYPE_CHECKING:
    from relevo.dispatch.connections import Producers
    from relevo.execution.models import Models


class Defining(celery.Celery):
    """A Celery app whose decorator looks at the options it is given."""

    #: The models that may be arguments of its tasks (relevo/execution/models.py).
    models: Models | None = None
    #: The ways to its named connections, as soon as somebody takes one
    #: (relevo/dispatch/connections.py).
    producers: Producers | None = None

    def task(self, *args: Any, **options: Any) -> Any:
        """Celery's decorator. Raises OptionError for an option of ours that can't be."""
        if args:
            return super().task(*args, **options)
        decorate = super().task(**options)

        def define(function: Callable[..., Any]) -> Any:
            name = options.get("name") or self.gen_task_name(function.__name__, function.__module__)
            check(self, name, function, options)
            return decorate(function)

        return define


def check(app: Any, name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raise OptionError unless a task can be defined with these options."""
    given = {key: options[key] for key in NAMES & options.keys()}
    base = getattr(options.get("base"), "options", None)
    rules = (base if isinstance(base, Options) else Options()).with_given(given, name)
    refuse_two_words(name, given, options)
    unique.check_names(name, rules, function, bound=bool(options.get("bind")))
    if rules.queue is not None and app.configured:  # reading the configuration would fix it
        builder.known_queue(app, name, rules.queue)


def refuse_two_words(name: str, given: Mapping[str, Any], celerys: Mapping[str, Any]) -> None:
    """Raise OptionError when a task says one thing both in our words and in Celery's."""
    pairs = [("timeout", "time_limit")]
    pairs += [
        (ours, word)
        for ours in sorted(POLICY & given.keys())
        for word in ("autoretry_for", "max_retries")
    ]
    for ours, word in pairs:
        if celerys.get(word) and given.get(ours) is not None:
            raise OptionError(f"expected {ours} or Celery's {word}, got both (task {name!r})")
