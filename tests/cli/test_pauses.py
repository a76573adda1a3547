"""`celery -A tasks pauses list`: what is paused, and until when."""

from __future__ import annotations

import json

from relevo import clock
from relevo.cli.pauses import pauses
from relevo.drivers.contract import NewJob


def test_every_pause_is_there_with_its_end(run, driver):
    assert run(pauses, "list").stdout == "Nothing is paused.\n"
    driver.put([NewJob("low", "{}", "a")])
    driver.pause("low")
    driver.pause("high", driver.now() + 60)
    driver.pause("over", driver.now() - 1)
    [high, low] = json.loads(run(pauses, "list", "--json").stdout)
    assert low == {"queue": "low", "pending": 1, "until": None}
    assert (high["queue"], high["pending"]) == ("high", 0)
    assert high["until"][:13] in {clock.utc(clock.now() + left).isoformat()[:13] for left in (0, 60)}
