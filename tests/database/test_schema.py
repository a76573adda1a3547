"""The tables: the migrations make those that the code expects, and a check is cheap."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from relevo.database import schema
from relevo.database.engine import make_engine
from relevo.drivers.contract import NewJob
from relevo.drivers.database.driver import DatabaseDriver
from relevo.drivers.database.tables import metadata
from relevo.errors import SchemaError
from relevo.limits.database.tables import metadata as limits
from tests.support import sqlite_tables


@pytest.fixture(autouse=True)
def _migrations(monkeypatch):
    """The real migrations."""
    monkeypatch.setattr(schema, "_upgrade", sqlite_tables.migrate)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def driver(request, tmp_path):
    """A driver whose tables have just been made."""
    url = (
        f"sqlite:///{tmp_path}/new.db"
        if request.param == "sqlite"
        else request.getfixturevalue(f"{request.param}_url")
    )
    driver = DatabaseDriver(url)
    driver.drop_schema()
    driver.create_schema()
    yield driver
    driver.drop_schema()  # other tests use this server, too
    driver.create_schema()
    driver.close()


@pytest.mark.parametrize("metadata", [metadata, limits], ids=["jobs", "limits"])
def test_a_migrated_database_has_the_tables_of_the_code(driver, metadata):
    with driver.connections.engine.connect() as connection:
        ours = {"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True} | ours
        )
        assert compare_metadata(context, metadata) == []


def test_the_newest_version_is_the_newest_migration(driver):
    head = ScriptDirectory(str(schema.SCRIPTS)).get_current_head()
    assert head == schema.NEWEST
    assert driver.connections.read(schema.version) == head


def test_tables_can_be_dropped_and_made_again(driver):
    driver.put([NewJob("default", "{}", "a")])
    driver.drop_schema()
    assert driver.connections.read(schema.version) is None
    driver.create_schema()
    assert driver.queues() == []


def test_many_processes_may_create_the_tables_at_once(driver):
    driver.drop_schema()
    drivers = [
        DatabaseDriver(str(driver.connections.url.render_as_string(hide_password=False)))
        for _ in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(DatabaseDriver.create_schema, drivers))
    assert driver.queues() == []


def test_without_its_tables_a_server_says_what_to_do(driver):
    driver.drop_schema()
    with pytest.raises(SchemaError, match="schema upgrade"):
        driver.queues()
    driver.create_schema()


def test_tables_of_a_later_version_are_left_alone(driver):
    with driver.connections.engine.begin() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="version 9999"):
        driver.create_schema()
    assert inspect(driver.connections.engine).has_table("relevo_jobs")


def test_postgresql_compares_names_as_bytes_in_every_locale(postgresql_url):
    driver = DatabaseDriver(postgresql_url)
    driver.create_schema()
    names = "column_name IN ('queue', 'exchange', 'unique_key')"
    own = "table_name LIKE 'relevo%'"  # other tests leave tables of other libraries
    asked = (
        f"SELECT DISTINCT collation_name FROM information_schema.columns WHERE {names} AND {own}"
    )
    assert driver.connections.read(
        lambda connection: connection.execute(text(asked)).scalars().all()
    ) == ["C"]


def test_postgresql_vacuums_the_tables_through_which_jobs_pass_early(postgresql_url):
    driver = DatabaseDriver(postgresql_url)
    driver.create_schema()
    setting = "autovacuum_vacuum_scale_factor=0.02"
    asked = f"SELECT relname FROM pg_class WHERE '{setting}' = ANY (reloptions)"
    found = driver.connections.read(
        lambda connection: connection.execute(text(asked)).scalars().all()
    )
    assert {"relevo_jobs", "relevo_outbox"} <= set(found)


def test_a_process_that_finds_its_tables_does_not_import_alembic(tmp_path):
    url = f"sqlite:///{tmp_path}/known.db"
    DatabaseDriver(url).queues()
    code = (
        "import sys; from relevo.drivers.database.driver import DatabaseDriver; "
        f"DatabaseDriver({url!r}).queues(); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_quick_tables_of_other_tests_are_those_of_the_migrations(tmp_path):
    asked = text("SELECT type, name, sql FROM sqlite_master ORDER BY type, name")
    found = []
    for name, make in {"quick": sqlite_tables.quickly, "migrated": sqlite_tables.migrate}.items():
        engine = make_engine(f"sqlite:///{tmp_path}/{name}.db")
        with engine.begin() as connection:
            make(connection)
            found.append((schema.version(connection), connection.execute(asked).all()))
        engine.dispose()
    assert found[0] == found[1]
    assert len(found[0][1]) > 50
