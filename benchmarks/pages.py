"""How long a page of the dashboard takes with a million jobs in history and in the failed store.

    python -m benchmarks.pages [jobs]

SQLite, in a file of its own. Each page is asked for several times; the median is shown, in milliseconds.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

from sqlalchemy import insert

from relevo import clock
from relevo.database.schema import create_schema
from relevo.store import failed, history, metrics, rollups, search, watched
from relevo.store.failed import Filter
from relevo.store.history import Ended
from relevo.store.session import Store
from relevo.store.tables import failed as failed_table
from relevo.store.tables import history as history_table
from relevo.store.tables import metrics as metrics_table
from relevo.store.tables import tags as tags_table

ROUNDS, PORTION = 5, 20_000
TASKS = ("images.process", "email.send", "reports.generate", "webhooks.deliver")
MEASURES = (("completed", 0), ("ran", 10), ("ran", 20), ("waited", 5), ("waited", 15))
QUEUES = ("high", "default", "low", "long")


def fill(store: Store, jobs: int) -> None:
    """So many jobs in history, a tenth of them in the failed store, two tags each; a week of metrics."""
    now, chance = clock.now(), random.Random(7)
    for start in range(0, jobs, PORTION):
        ended, marks, failures = [], [], []
        for number in range(start, min(jobs, start + PORTION)):
            uuid, task, at = f"{number:08x}-0000-4000-8000-000000000000", chance.choice(TASKS), now - jobs + number
            tags = [f"user:{number % 5000}", "all"]
            queue, said = chance.choice(QUEUES), f"({number},) {{'size': {number % 999}}}"
            ended.append({
                "uuid": uuid, "task": task, "connection": "database", "queue": queue, "attempts": 1, "waited": 0.1,
                "state": "failed" if number % 10 == 0 else "completed", "tags": json.dumps(tags), "arguments": said,
                "message": "", "ran": 0.2, "ended_at": at,
            })  # fmt: skip
            marks += [{"tag": tag, "uuid": uuid, "at": at} for tag in tags]
            if number % 10 == 0:
                failures.append({
                    "uuid": uuid, "origin": 0, "task": task, "connection": "database", "queue": queue, "attempts": 1,
                    "payload": json.dumps({"body": said * 5}), "tags": json.dumps(tags), "errors": "[]",
                    "exception": "ValueError", "message": f"number {number} is wrong", "failed_at": at,
                })  # fmt: skip
        store.write(lambda connection, e=ended, m=marks, f=failures: (
            connection.execute(insert(history_table), e), connection.execute(insert(tags_table), m),
            connection.execute(insert(failed_table), f)))  # fmt: skip
    minutes = [{"minute": int(now) // 60 * 60 - 60 * back, "kind": "queue", "name": queue, "measure": measure,
                "bucket": bucket, "jobs": 3, "seconds": 1.0}
               for back in range(7 * 1440) for queue in QUEUES for measure, bucket in MEASURES]  # fmt: skip
    for start in range(0, len(minutes), PORTION):
        part = minutes[start : start + PORTION]
        store.write(lambda connection, part=part: connection.execute(insert(metrics_table), part))


def pages(store: Store) -> dict[str, Callable[[], object]]:
    """What the pages ask for."""
    now = clock.now()
    last = history.page(store, Ended.COMPLETED, limit=50)[-1]

    def ended(text: str, before=None) -> Callable[[], object]:
        typed = search.parse(text)

        def ask() -> object:
            common = watched.are_common(store, [value for name, value in typed.terms if name == "tag"])
            conditions = search.of_history(typed, common)
            return history.page(store, Ended.COMPLETED, before=before, limit=51, also=conditions)

        return ask

    def failing(text: str) -> Callable[[], object]:
        which = Filter(also=search.of_failed(search.parse(text)))
        return lambda: (failed.page(store, which, limit=51), failed.count_up_to(store, 10_001, which))

    return {
        "completed, first page": ended(""), "completed, second page": ended("", last),
        "completed, task:": ended("task:email.send"), "completed, tag: of few": ended("tag:user:77"),
        "completed, tag: of all": ended("tag:all"), "completed, id:": ended("id:000f4000-0000-4000-8000-000000000000"),
        "completed, args: of few": ended("args:(777777,)"), "completed, args: of none": ended("args:nothing"),
        "failed, first page": failing(""), "failed, queue:": failing("queue:low"), "failed, error: of few":
        failing('error:"number 77770 is"'), "failed, words of none": failing("nothing"),
        "chart of 7 days": lambda: rollups.slots(store, metrics.QUEUE, now - 604_800, now, 7200),
        "failed of 7 days": lambda: failed.count_all(store, Filter(since=now - 604_800)),
        "tags": lambda: (watched.counts(store, names := watched.recent(store)), watched.failures(store, names)),
    }  # fmt: skip


def main(jobs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/store.db")
        store.administer(create_schema)
        began = time.perf_counter()
        fill(store, jobs)
        print(f"{jobs:,} jobs written in {time.perf_counter() - began:.0f} s")
        for name, ask in pages(store).items():
            taken = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                ask()
                taken.append(1000 * (time.perf_counter() - start))
            print(f"{name:28} {statistics.median(taken):8.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
