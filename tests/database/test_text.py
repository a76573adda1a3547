"""SQLite stores bytes that are not UTF-8 as text."""

from __future__ import annotations

from sqlalchemy import text

from relevo.drivers.contract import NewJob
from relevo.drivers.database.driver import DatabaseDriver


def test_a_payload_that_is_not_utf8_does_not_block_its_queue(tmp_path):
    driver = DatabaseDriver(f"sqlite:///{tmp_path}/jobs.sqlite3")
    driver.put([NewJob("default", "{}", "bad"), NewJob("default", "{}", "good")])
    spoil = text("UPDATE relevo_jobs SET payload = CAST(x'fffe41' AS TEXT) WHERE job_id = 'bad'")
    driver.connections.write(lambda connection: connection.execute(spoil))
    taken = driver.reserve(["default"], 2, 30, "worker")
    assert [(job.id, job.payload) for job in taken] == [("bad", "\ufffd\ufffdA"), ("good", "{}")]
