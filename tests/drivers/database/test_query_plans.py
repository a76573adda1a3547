"""With a deep backlog the hot statements use an index: none sorts the jobs or reads the whole
table.
"""

from __future__ import annotations

import pytest
from sqlalchemy import text

from relevo.drivers.contract import Lease, NewJob, State
from relevo.drivers.database.driver import DatabaseDriver
from tests.support.statements import statements_of

BACKLOG = 3000
EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN", "mysql": "EXPLAIN"}
# What a plan says when it sorts or reads everything.
COSTLY = {
    "sqlite": ["USE TEMP B-TREE", "SCAN relevo_jobs"],
    "postgresql": [
        "Sort Key: priority",
        "Sort Key: relevo_jobs.priority",
        "Seq Scan on relevo_jobs",
    ],
    "mysql": ["filesort", "temporary", "relevo_jobs ALL"],
}


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"], scope="module")
def driver(request, tmp_path_factory):
    """A driver on a broker with many pending and many delayed jobs, and a few that are held."""
    file = f"sqlite:///{tmp_path_factory.mktemp('plans')}/relevo.db"
    driver = DatabaseDriver(
        file if request.param == "sqlite" else request.getfixturevalue(f"{request.param}_url")
    )
    driver.drop_schema()
    driver.create_schema()
    later = driver.now() + 3600
    driver.put(
        [NewJob("deep", "{}" * 50, f"p{number}", priority=number % 3) for number in range(BACKLOG)]
    )
    driver.put(
        [NewJob("deep", "{}" * 50, f"d{number}", available_at=later) for number in range(BACKLOG)]
    )
    driver.reserve(["deep"], 20, 600, "worker")
    with driver.connections.engine.begin() as connection:
        connection.execute(
            text("ANALYZE TABLE relevo_jobs" if driver.name == "mysql" else "ANALYZE")
        )
    yield driver
    driver.clear("deep")
    driver.close()


@pytest.mark.parametrize(
    "verb",
    [
        lambda driver: driver.reserve(
            ["high", "deep", "low"], 10, 600, "worker", done=[Lease(1, "x")]
        ),
        lambda driver: driver.reserve(["empty"], 10, 600, "worker"),
        lambda driver: driver.rescue(),
        lambda driver: driver.ack([Lease(1, "x"), Lease(2, "y")]),
        lambda driver: driver.extend([Lease(1, "x"), Lease(2, "y")], 600),
        lambda driver: driver.peek("deep", State.PENDING, 10),
        lambda driver: driver.delete(["p1"]),
    ],
    ids=["reserve", "reserve-nothing", "rescue", "ack", "extend", "peek", "delete"],
)
def test_nothing_sorts_the_backlog_or_reads_it_all(driver, verb):
    plans = plans_of(driver, verb)
    assert plans
    assert [plan for plan in plans if any(sign in plan for sign in COSTLY[driver.name])] == []


def plans_of(driver, verb):
    """How the database would do each statement of `verb`."""
    said = statements_of(driver, verb)
    explained = [
        one for one in said if one[0].lstrip().split()[0] in {"SELECT", "UPDATE", "DELETE", "WITH"}
    ]
    with driver.connections.engine.connect() as connection:
        return [
            "\n".join(_lines(connection, f"{EXPLAIN[driver.name]} {sql}", given))
            for sql, given in explained
        ]


def _lines(connection, sql, given):
    return [" ".join(map(str, row)) for row in connection.exec_driver_sql(sql, given)]
