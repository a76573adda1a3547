"""Sends alerts to people: by mail, Slack, and the hundred other services that Apprise knows.

`ALERT_URLS` get every alert, `ALERT_CRITICAL_URLS` the critical ones as well. Without any url no
alert is sent, and that is no error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from apprise import Apprise, NotifyFormat, NotifyType

from relevo.config.services import AlertSettings
from relevo.errors import AlertError


@dataclass(frozen=True, slots=True)
class Alert:
    """What people are told."""

    title: str
    text: str
    critical: bool = False


#: Takes the alerts in place of their receivers, in tests (`relevo.testing.fake_alerts`).
taker: Callable[[Alert], None] | None = None


def send(alerts: AlertSettings, title: str, text: str, *, critical: bool = False) -> int:
    """Send an alert to its receivers, and return their number.

    Raises AlertError when one of them was not reached.
    """
    urls = alerts.urls + alerts.critical if critical else alerts.urls
    if taker is not None:
        taker(Alert(title, text, critical))
        return len(urls)
    receivers = Apprise()
    for number, url in enumerate(urls, start=1):
        if not receivers.add(url):
            shown = f"{url.partition('://')[0]}://…"  # the rest holds keys and passwords
            raise AlertError(f"expected alert url {number} to be one of Apprise's, got {shown}")
    kind = NotifyType.FAILURE if critical else NotifyType.WARNING
    if len(receivers) and not receivers.notify(
        text, title, kind, body_format=NotifyFormat.TEXT, interpret_escapes=False
    ):
        raise AlertError(f"an alert did not reach all of {len(receivers)} receivers")
    return len(receivers)
