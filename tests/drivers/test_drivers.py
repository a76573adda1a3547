"""The driver of a url and its options."""

from __future__ import annotations

from relevo.drivers import driver_for


def test_a_process_has_one_driver_for_a_url_and_its_options():
    assert driver_for("relevo://one") is driver_for("relevo://one", {})
    assert driver_for("redis://h", {"client_name": "a"}) is not driver_for(
        "redis://h", {"client_name": "b"}
    )


def test_the_retry_policy_that_kombu_leaves_among_the_options_makes_no_other():
    given, left = (
        {"client_name": "a"},
        {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1},
    )
    assert driver_for("redis://h", given) is driver_for("redis://h", {**given, **left})
