"""Runs random histories: the same ones each time, however slow the machine is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.stateful import RuleBasedStateMachine


def run_histories(make: Callable[[], RuleBasedStateMachine], examples: int, steps: int) -> None:
    """Run this number of histories with this number of steps."""
    depth = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(make, settings=depth)
