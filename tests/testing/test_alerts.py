"""The fake of alerts: it keeps them, and a failed assertion lists them."""

from __future__ import annotations

import pytest

from relevo import alerts
from relevo.alerts import Alert, AlertError
from relevo.config.services import AlertSettings
from relevo.testing import fake_alerts

# Nobody listens there: an alert that is sent is an error.
SETTINGS = AlertSettings(("json://127.0.0.1:1/",), ("json://127.0.0.1:2/",))


def test_no_alert_reaches_a_receiver_until_the_block_ends():
    with fake_alerts() as kept, fake_alerts() as inner:
        assert alerts.send(SETTINGS, "full", "3 GB", critical=True) == 2
        assert alerts.send(SETTINGS, "late", "5 m") == 1
    assert inner.all() == [Alert("full", "3 GB", critical=True), Alert("late", "5 m")]
    kept.assert_nothing_sent()
    with pytest.raises(AlertError, match="did not reach"):
        alerts.send(SETTINGS, "full", "3 GB")


def test_it_can_refuse_alerts():
    with fake_alerts() as kept:
        kept.refuse(AlertError("away"))
        with pytest.raises(AlertError, match="away"):
            alerts.send(SETTINGS, "full", "3 GB")
        kept.refuse(None)
        alerts.send(SETTINGS, "full", "3 GB")
    kept.assert_count(1)


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        (lambda kept: kept.assert_sent("late"), "an alert with the title 'late' to be sent"),
        (
            lambda kept: kept.assert_sent(critical=True, times=2),
            "critical alert to be sent 2 times",
        ),
        (lambda kept: kept.assert_not_sent("full"), "with the title 'full' not to be sent"),
        (lambda kept: kept.assert_sent(where=lambda _: False), "where the predicate is true"),
        (lambda kept: kept.assert_count(2), "expected 2 alerts, got 1"),
        (lambda kept: kept.assert_nothing_sent(), "no alert to be sent"),
    ],
)
def test_a_failed_assertion_lists_what_was_sent(fails, said):
    with fake_alerts() as kept:
        alerts.send(SETTINGS, "full", "3 GB", critical=True)
        with pytest.raises(AssertionError) as failed:
            fails(kept)
    assert said in str(failed.value)
    assert str(failed.value).endswith("what was sent:\n  1. 'full', critical")
