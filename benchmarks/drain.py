"""The drain rate: jobs a second of `worker -P prefork -c 2` with late acks, on a queue of jobs that
do nothing.

    python -m benchmarks.drain [URL …]          BENCH_JOBS=5000 BENCH_ROUNDS=3

Our brokers take turns with stock Celery on kombu's SQLAlchemy transport and the same PostgreSQL.
The clock runs from a marker job in front of the jobs to one behind them; a marker only writes its
time. kombu's transport gets a tenth of the jobs: all would take minutes.
"""

from __future__ import annotations

import base64
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from kombu.utils.json import dumps
from sqlalchemy import create_engine, text

from benchmarks.stage import QUEUE, Stage, brokers, message, table, until

JOBS, ROUNDS = int(os.environ.get("BENCH_JOBS", "5000")), int(os.environ.get("BENCH_ROUNDS", "3"))


@dataclass
class Side:
    """One system, and its figures: jobs a second, and CPU milliseconds a job."""

    name: str
    stage: Stage
    fill: Callable[[Stage, int], None]
    jobs: int = JOBS
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self) -> None:
        self.stage.journal.unlink(missing_ok=True)
        self.fill(self.stage, self.jobs)
        with self.stage.starting(
            "-P", "prefork", "-c", "2", "--without-gossip", "--without-mingle"
        ) as worker:
            until(lambda: 1 in self.stage.facts("mark"), worker)
            before = worker.cpu()
            until(lambda: 2 in self.stage.facts("mark"), worker)
            marks, used = self.stage.facts("mark"), worker.cpu() - before
        self.rates.append(self.jobs / (marks[2] - marks[1]))
        self.cpu.append(used / self.jobs * 1000)


def fill(stage: Stage, jobs: int) -> None:
    stage.clear()
    stage.put("bench.mark", [[1]])
    stage.put("bench.noop", [[]] * jobs)
    stage.put("bench.mark", [[2]])


def fill_kombu(stage: Stage, jobs: int) -> None:
    """Fill the table as kombu's producer would. The first worker makes it, or this function."""
    names = [("bench.mark", [1]), *[("bench.noop", [])] * jobs, ("bench.mark", [2])]
    engine = create_engine(stage.url.removeprefix("sqla+"))
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM kombu_message"))
        queue = connection.execute(
            text("SELECT id FROM kombu_queue WHERE name = :name"), {"name": QUEUE}
        ).scalar_one()
        insert = text(
            "INSERT INTO kombu_message (id, visible, timestamp, payload, version, queue_id)"
            " VALUES (nextval('message_id_sequence'), true, now(), :payload, 1, :queue)"
        )
        connection.execute(
            insert, [{"payload": wrapped(name, args), "queue": queue} for name, args in names]
        )
    engine.dispose()


def wrapped(name: str, args: list[int]) -> str:
    _, made = message(name, args)
    made["body"] = base64.b64encode(made["body"].encode()).decode()
    made["properties"]["body_encoding"] = "base64"
    return dumps(made)


def kombu_side(url: str) -> Side:
    """Stock Celery on kombu's transport. A worker that starts once makes the tables."""
    stage = Stage(f"sqla+{url.replace('postgresql:', 'postgresql+psycopg:')}", BENCH_STOCK="1")
    with stage.worker("-c", "1"):
        pass
    return Side("kombu's sqlalchemy, postgresql", stage, fill_kombu, JOBS // 10)


def main() -> None:
    with brokers(sys.argv[1:]) as urls:
        sides = [Side(name, Stage(url), fill) for name, url in urls.items()]
        sides += [kombu_side(url) for name, url in urls.items() if name == "postgresql"]
        for _ in range(ROUNDS):
            for side in sides:
                side.run()
        report(sides)


def report(sides: list[Side]) -> None:
    last = statistics.median(sides[-1].rates)
    rows = [
        (
            side.name,
            f"{statistics.median(side.rates):,.0f}",
            f"{min(side.rates):,.0f}",
            f"{max(side.rates):,.0f}",
            f"{statistics.median(side.cpu):.2f}",
            f"{statistics.median(side.rates) / last:.1f}",
        )
        for side in sides
    ]
    heads = ["broker", "jobs/s", "min", "max", "CPU ms/job", f"times {sides[-1].name}"]
    table(
        f"{JOBS} jobs that do nothing, prefork -c 2, acks late, {ROUNDS} rounds (medians)",
        heads,
        rows,
    )


if __name__ == "__main__":
    main()
