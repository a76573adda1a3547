"""Telling people that something is wrong: by mail, Slack, and the hundred others that Apprise
knows.

`ALERT_URLS` hear of everything, `ALERT_CRITICAL_URLS` of what is critical besides. Without any,
nobody is told, and that is no error.
"""

from __future__ import annotations

from apprise import Apprise, NotifyFormat, NotifyType

from relevo.config.services import Alerts
from relevo.errors import AlertError


def send(alerts: Alerts, title: str, text: str, *, critical: bool = False) -> int:
    """Tell everybody who is to hear of it; how many that were. Raises AlertError when one of them
    was not reached.
    """
    urls = alerts.urls + alerts.critical if critical else alerts.urls
    people = Apprise()
    for number, url in enumerate(urls, start=1):
        if not people.add(url):
            shown = f"{url.partition('://')[0]}://…"  # the rest holds keys and passwords
            raise AlertError(f"expected alert url {number} to be one of Apprise's, got {shown}")
    kind = NotifyType.FAILURE if critical else NotifyType.WARNING
    if len(people) and not people.notify(
        text, title, kind, body_format=NotifyFormat.TEXT, interpret_escapes=False
    ):
        raise AlertError(f"an alert did not reach all of {len(people)} receivers")
    return len(people)
