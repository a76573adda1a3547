"""The application's tables: what the migrations make on every database, and what they refuse."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone

import pytest
from alembic import command
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.exc import DBAPIError

from app.models import Base, File, FileVersion, User, schema, session
from relevo.database.engine import engine_for, resolve
from relevo.errors import SchemaError
from tests.support.programs import ROOT, run, start
from tests.support.waits import LONG


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request, tmp_path):
    """The url of an empty database of each kind, a fresh one for every test."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/app.sqlite3"
        return
    server = resolve(request.getfixturevalue(f"{request.param}_url"))
    maker = create_engine(server, isolation_level="AUTOCOMMIT")
    name = f"models_{tmp_path.name.replace('-', '_')[:40]}".lower()
    with maker.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    own = server.set(database=name).render_as_string(hide_password=False)
    yield own
    engine_for(own).dispose()
    with maker.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name}"))
    maker.dispose()


@pytest.fixture
def migrated(url):
    schema.upgrade(engine_for(url))
    return url


def shape(engine):
    """Everything the database says of the application's tables, in an order of our own."""
    looking = inspect(engine)
    told = {}
    for table in Base.metadata.tables:
        told[table] = {
            "columns": [
                {**column, "type": str(column["type"])} for column in looking.get_columns(table)
            ],
            "primary": looking.get_pk_constraint(table),
            **{
                kind: sorted(map(repr, getattr(looking, f"get_{kind}")(table)))
                for kind in ("indexes", "unique_constraints", "foreign_keys", "check_constraints")
            },
        }
    return told


def test_a_migrated_database_is_as_a_fresh_one_from_the_models(url):
    engine = engine_for(url)
    schema.upgrade(engine)
    migrated = shape(engine)
    with engine.begin() as connection:
        command.downgrade(schema._config(connection), "base")
    assert not set(inspect(engine).get_table_names()) & Base.metadata.tables.keys()
    Base.metadata.create_all(engine)
    assert migrated == shape(engine)
    assert set(migrated) == Base.metadata.tables.keys()


def test_what_is_stored_comes_back_as_it_was(migrated):
    moment = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=5)))
    with session(migrated) as db:
        user = User(name="Zoë", email="zoe@example.com", created_at=moment)
        db.add(user)
        db.flush()
        db.add(
            File(
                user_id=user.id,
                disk="local",
                path="a/b",
                original_name="Überraschung 🎉.jpg",
                mime="image/jpeg",
                size=5_000_000_000,
                processed_at=moment,
            )
        )
    with session(migrated) as db:
        file = db.scalars(select(File)).one()
        assert file.processed_at == moment
        assert file.processed_at.tzinfo is UTC
        assert (file.original_name, file.size) == ("Überraschung 🎉.jpg", 5_000_000_000)


def filed(url, **others):
    """A file of a new user; its id."""
    with session(url) as db:
        user = User(name="A", email="a@example.com")
        db.add(user)
        db.flush()
        file = File(
            user_id=user.id, disk="local", path="a", original_name="a", mime="x/y", size=1, **others
        )
        db.add(file)
        db.flush()
        return file.id


def version(file_id, **others):
    return FileVersion(
        **{
            "file_id": file_id,
            "name": "large",
            "path": "p",
            "width": 1,
            "height": 1,
            "bytes": 1,
            "options": {"edge": 1},
            **others,
        }
    )


def test_the_database_itself_refuses_invalid_rows(migrated):
    file_id = filed(migrated)
    with session(migrated) as db:
        db.add(version(file_id))
    refused = [
        version(file_id),
        version(file_id, name="x", width=0),
        version(file_id + 999, name="y"),
        User(name="B", email="a@example.com"),
        File(user_id=file_id + 999, disk="local", path="a", original_name="a", mime="x/y", size=1),
    ]
    for row in refused:
        with session(migrated) as db:
            db.add(row)
            with pytest.raises(
                DBAPIError, match=r"(?i)constraint|duplicate"
            ):  # MariaDB's is no IntegrityError
                db.flush()
            db.rollback()


def test_a_file_is_processed_or_in_error_never_both(migrated):
    file_id = filed(migrated, processed_at=datetime.now(UTC))
    with session(migrated) as db:
        file = db.get(File, file_id)
        file.error = "no"
        with pytest.raises(DBAPIError, match="one_ending"):
            db.flush()
        db.rollback()


def test_the_versions_of_a_file_go_with_it(migrated):
    file_id = filed(migrated)
    with session(migrated) as db:
        db.add(version(file_id))
    with session(migrated) as db:
        db.delete(db.get(File, file_id))
    with session(migrated) as db:
        assert db.scalars(select(FileVersion)).all() == []


def test_a_block_that_raises_leaves_nothing(migrated):
    def add_and_fail():
        with session(migrated) as db:
            db.add(User(name="A", email="a@example.com"))
            db.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        add_and_fail()
    with session(migrated) as db:
        assert db.scalars(select(User)).all() == []


def test_sqlite_makes_its_tables_at_first_use_and_a_server_says_what_to_do(url):
    if url.startswith("sqlite"):
        with session(url) as db:
            assert db.scalars(select(User)).all() == []
    else:
        with pytest.raises(SchemaError, match="alembic upgrade head"), session(url):
            pass


def test_processes_that_use_a_new_sqlite_file_at_once_all_find_the_tables(tmp_path):
    program = (
        "import sys; from app.models import User, session\n"
        "with session() as db: db.add(User(name='x', email=sys.argv[1]))"
    )
    settings = {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{tmp_path}/new.sqlite3",
        "PYTHONPATH": str(ROOT),
    }
    with (tmp_path / "log").open("wb") as log:
        started = [
            start("-c", program, f"{n}@example.com", environ=settings, output=log, folder=tmp_path)
            for n in range(4)
        ]
    assert [process.wait(LONG) for process in started] == [0] * 4
    with session(f"sqlite:///{tmp_path}/new.sqlite3") as db:
        assert len(db.scalars(select(User)).all()) == 4


def test_the_alembic_command_finds_the_database_of_the_settings(tmp_path):
    settings = {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/var/app.sqlite3"}
    alembic = ["-m", "alembic", "-c", str(ROOT / "alembic.ini")]
    upgraded, checked = (
        run(*alembic, *words, environ=settings, folder=tmp_path)
        for words in (["upgrade", "head"], ["check"])
    )
    assert (upgraded.returncode, checked.returncode) == (0, 0), upgraded.stderr + checked.stderr
    assert "No new upgrade operations" in checked.stdout
