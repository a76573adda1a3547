"""The time of a list or a search of the dashboard, with a million jobs in history and a million
failed jobs.

    python -m benchmarks.pages [jobs] [url]

The database is a new SQLite file, or the empty database at `url`. Each page is requested several
times, as the dashboard does it. The table has the median and the maximum, in milliseconds. "more"
means that the search stopped before the end, and says how far it came.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert

from relevo import clock
from relevo.dashboard.pages import tags as labels
from relevo.dashboard.pages.failed import COUNT_SECONDS, MOST_COUNTED, SEARCH_SECONDS
from relevo.database.schema import create_schema
from relevo.store import audit, failed, metric_rollups, metrics, search_syntax, watched_tags
from relevo.store import search as finding
from relevo.store.failed import Filter
from relevo.store.history import Ended
from relevo.store.store import Store
from relevo.store.tables import audit as audit_table
from relevo.store.tables import failed as failed_table
from relevo.store.tables import history as history_table
from relevo.store.tables import metrics as metrics_table
from relevo.store.tables import tags as tags_table
from relevo.store.window_scan import Place

ROUNDS, PORTION = 5, 20_000
TASKS = ("images.process", "email.send", "reports.generate", "webhooks.deliver")
MEASURES = (("completed", 0), ("ran", 10), ("ran", 20), ("waited", 5), ("waited", 15))
QUEUES = ("high", "default", "low", "long")


def fill(store: Store, jobs: int) -> None:
    """Write `jobs` jobs with two tags each into history and the failed store; a week of metrics."""
    now, chance = clock.now(), random.Random(7)
    for start in range(0, jobs, PORTION):
        ended, marks, failures = [], [], []
        for number in range(start, min(jobs, start + PORTION)):
            uuid, task, at = (
                f"{chance.getrandbits(32):08x}-{number:012d}",
                chance.choice(TASKS),
                now - jobs + number,
            )
            tags = [f"user:{number % 5000}", "all"]
            queue, said = chance.choice(QUEUES), f"({number},) {{'size': {number % 999}}}"
            ended.append(
                {
                    "uuid": uuid,
                    "task": task,
                    "connection": "database",
                    "queue": queue,
                    "attempts": 1,
                    "waited": 0.1,
                    "state": "cancelled" if number % 10 == 0 else "completed",
                    "tags": json.dumps(tags),
                    "arguments": said,
                    "message": "",
                    "ran": 0.2,
                    "ended_at": at,
                }
            )
            marks += [{"tag": tag, "uuid": uuid, "at": at} for tag in tags]
            failures.append(
                {
                    "uuid": uuid,
                    "origin": 0,
                    "task": task,
                    "connection": "database",
                    "queue": queue,
                    "attempts": 1,
                    "payload": json.dumps({"body": said, "headers": "x" * 700}),
                    "tags": json.dumps(tags),
                    "errors": json.dumps([{"traceback": "line\n" * 160}]),
                    "exception": "ValueError",
                    "failed_at": at,
                    "message": f"number {number} is wrong",
                    "arguments": said,
                    "retried_at": at if number % 3 == 0 else None,
                }
            )
        store.write(
            lambda connection, e=ended, m=marks, f=failures: (
                connection.execute(insert(history_table), e),
                connection.execute(insert(tags_table), m),
                connection.execute(insert(failed_table), f),
            )
        )
        done = [
            {
                "at": now,
                "who": "ann",
                "action": "retry",
                "target": f"failed jobs {number}",
                "outcome": "1 job.",
            }
            for number in range(PORTION // 10)
        ]
        store.write(lambda connection, done=done: connection.execute(insert(audit_table), done))
    minutes = [
        {
            "minute": int(now) // 60 * 60 - 60 * back,
            "kind": "queue",
            "name": queue,
            "measure": measure,
            "bucket": bucket,
            "jobs": 3,
            "seconds": 1.0,
        }
        for back in range(7 * 1440)
        for queue in QUEUES
        for measure, bucket in MEASURES
    ]
    for start in range(0, len(minutes), PORTION):
        part = minutes[start : start + PORTION]
        store.write(lambda connection, part=part: connection.execute(insert(metrics_table), part))


@dataclass
class Uncached:
    """The dashboard's source without its caches."""

    store: Store

    def remembers(self, _key: object) -> bool:
        return False

    def remembered(self, _key: object, _seconds: float, make: Callable[[], Any]) -> Any:
        return make()


def pages(store: Store, jobs: int) -> dict[str, Callable[[], Any]]:
    """The queries of the pages. Each returns where to go on, or None at the end."""
    now = clock.now()

    def ended(text: str, before: Place | None = None) -> Callable[[], Any]:
        def ask() -> Any:
            question = finding.history_query(
                store, search_syntax.parse(text), Ended.COMPLETED, False
            )
            return question.page(store, before=before, limit=51, seconds=SEARCH_SECONDS)[1]

        return ask

    def failing(text: str, before: Place | None = None) -> Callable[[], Any]:
        def ask() -> Any:
            question = finding.failed_query(store, search_syntax.parse(text))
            question.count(store, most=MOST_COUNTED, seconds=COUNT_SECONDS)
            return question.page(store, before=before, limit=51, seconds=SEARCH_SECONDS)[1]

        return ask

    middle = (now - jobs / 2, jobs // 2)
    one = failed.page(store, limit=1)[0].uuid
    said = {
        "first page": "",
        "task:": "task:email.send",
        "task: of none": "task:nothing",
        "task: a pattern": "task:*.none",
        "queue: of none": "queue:nothing",
        "queue: and task:": "queue:low task:email.send",
        "tag: of 200": "tag:user:77",
        "tag: of all": "tag:all",
        "tag: of none": "tag:nothing",
        "tag: a pattern": "tag:user:7*",
        "tag: a pattern of none": "tag:nobody*",
        "tag: and words of none": "tag:all nothing",
        "id:": f"id:{one}",
        "id: its beginning": f"id:{one[:5]}*",
        "id: of half": "id:*-00000",
        "args: of few": "args:(777777,)",
        "args: of none": "args:nothing",
        "error: of few": 'error:"number 77770 is"',
        "words of none": "nothing at all",
        "since: and words": "since:7d nothing",
        "until:": f"until:{jobs // 2}s",
        "until: and queue:": f"until:{jobs // 2}s queue:low",
        "since: and queue:": "since:1h queue:low",
        "since: and queue: of none": "since:30d queue:nothing",
    }
    asked: dict[str, Callable[[], Any]] = {}
    for where, ask in (("failed", failing), ("completed", ended)):
        asked |= {f"{where}, {name}": ask(text) for name, text in said.items()}
        asked[f"{where}, from the middle"] = ask("", middle)
    return {
        **asked,
        "audit": lambda: audit.scan(
            store, "nothing", before=None, limit=51, seconds=SEARCH_SECONDS
        )[1],
        "chart of 7 days": lambda: (
            metric_rollups.slots(store, metrics.QUEUE, now - 604_800, now, 7200) and None
        ),
        "failed of 7 days": lambda: failed.count_all(store, Filter(since=now - 604_800)) and None,
        "tags": lambda: labels.count(Uncached(store), watched_tags.find_recent(store)) and None,  # type: ignore[arg-type]
    }


def main(jobs: int, url: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(url or f"sqlite:///{folder}/store.db")
        store.administer(create_schema)
        began = time.perf_counter()
        fill(store, jobs)
        print(f"{jobs:,} jobs written in {time.perf_counter() - began:.0f} s")
        for name, ask in pages(store, jobs).items():
            taken, further = [], None
            for _ in range(ROUNDS):
                start = time.perf_counter()
                further = ask()
                taken.append(1000 * (time.perf_counter() - start))
            print(
                f"{name:38} {statistics.median(taken):8.1f} {max(taken):8.1f} "
                f"{'more' if further else ''}"
            )


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000,
        sys.argv[2] if len(sys.argv) > 2 else None,
    )
