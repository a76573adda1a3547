"""imports.users: rows good or bad, each once, whatever the file is and whoever is killed."""

from __future__ import annotations

import io

import pytest
from sqlalchemy import func, select

from app.models import Import, ImportRow, User, session
from relevo.errors import OptionError
from tasks import imports, storage


def uploaded(shop, text, name="people.csv"):
    storage.disk("local").put(f"imports/{name}", text if isinstance(text, bytes) else text.encode())
    return shop.add(
        Import(user_id=shop.user("Owner").id, name=name, disk="local", path=f"imports/{name}")
    ).id


def run(shop, number):
    """All chunks one after the other, then the end, as the batch does it."""
    row = shop.row(Import, number)
    for where in imports.split(storage.disk(row.disk).open(row.path)):
        shop.queue.run(imports.chunk, number, *where).assert_completed()
    shop.queue.run(imports.finish, number).assert_completed()
    return rows(number)


def rows(number):
    with session() as db:
        found = db.scalars(
            select(ImportRow).filter_by(import_id=number).order_by(ImportRow.number)
        ).all()
    return {row.number: row.error for row in found}


def users():
    with session() as db:
        return db.scalar(select(func.count()).select_from(User)) - 1


def test_every_row_is_reported_good_or_bad_and_the_user_gets_a_summary(shop):
    number = uploaded(
        shop,
        "email;Name;age\nzoe@example.com;Zoë;7\nnobody;X;1\na@example.com;;\n\nZOE@example.com;Again;2\n"
        'b@example.com;"Bo; the\nsecond";3\nc@example.com;"quoted; name"\nlonely\n',
    )
    told = run(shop, number)
    assert told[1] is None
    assert "expected an address, got 'nobody'" in told[2]
    assert "expected a name" in told[3]
    assert 4 not in told
    assert told[5] == "there is a user with the address zoe@example.com"
    assert "expected a name" in told[6]
    assert told[7] is None
    assert "expected an address" in told[8]
    shop.queue.drain()
    assert shop.subjects.count("Import people.csv: 2 good, 5 bad") == 1
    assert "Welcome, quoted; name" in shop.subjects
    assert shop.row(Import, number).state == "completed"


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
def test_every_row_is_imported_once_for_any_size_of_chunks(shop, monkeypatch, chunk):
    monkeypatch.setattr(imports, "CHUNK", chunk)
    text = "name,email\n" + "".join(
        f'"N {n}\nline",ü{n}@example.com\r\n' if n % 3 else f"N{n},n{n}@example.com\n"
        for n in range(20)
    )
    told = run(shop, uploaded(shop, "\ufeff" + text))
    assert sorted(told) == list(range(1, 21))
    parts = list(imports.split(io.BytesIO(text.encode())))
    assert (
        "".join(text.encode()[part[1] : part[2]].decode() for part in parts)
        == text.partition("\n")[2]
    )


def test_a_chunk_that_runs_again_makes_no_user_twice_and_mails_nobody_twice(shop):
    number = uploaded(shop, "name,email\nA,a@example.com\nB,b@example.com\n")
    for _ in range(2):
        assert run(shop, number) == {1: None, 2: None}
        shop.queue.drain()
    assert users() == 2
    assert len(shop.mails) == 3


def test_a_chunk_that_is_killed_has_done_nothing(shop, monkeypatch):
    number = uploaded(shop, "name,email\nA,a@example.com\nB,b@example.com\n")
    real = imports._import_row
    monkeypatch.setattr(
        imports,
        "_import_row",
        lambda db, *rest: real(db, *rest) if rest[1] < 2 else (_ for _ in ()).throw(SystemExit),
    )
    (where,) = imports.split(storage.disk("local").open("imports/people.csv"))
    with pytest.raises(SystemExit):
        imports.chunk(number, *where)
    assert (users(), rows(number)) == (0, {})


def test_the_rows_of_a_chunk_that_has_failed_for_good_are_bad(shop, monkeypatch):
    number = uploaded(shop, "name,email\nA,a@example.com\nB,b@example.com\n")
    monkeypatch.setattr(imports, "_import_row", lambda *_: 1 / 0)
    (where,) = imports.split(storage.disk("local").open("imports/people.csv"))
    imports.chunk.delay(number, *where)
    shop.queue.drain(including_delayed=True)
    assert rows(number) == {1: "division by zero", 2: "division by zero"}


def test_a_chunk_whose_file_is_gone_is_reported(shop):
    number = uploaded(shop, "name,email\nA,a@example.com\n")
    (where,) = imports.split(storage.disk("local").open("imports/people.csv"))
    storage.disk("local").delete("imports/people.csv")
    imports.chunk.delay(number, *where)
    shop.queue.drain(including_delayed=True)
    shop.queue.run(imports.finish, number).assert_completed({"good": 0, "bad": 1})
    assert "people.csv" in rows(number)[1]


def test_a_failed_import_that_is_retried_completes(shop):
    """It was skipped, and its job had completed: a retry that did nothing."""
    number = uploaded(shop, b"")
    imports.users.delay(number)
    shop.queue.drain()
    assert shop.row(Import, number).state == "failed"
    storage.disk("local").put("imports/people.csv", b"name,email\nA,a@example.com\n")
    shop.queue.run(imports.users, number).assert_completed({"import": number, "chunks": 1})
    row = shop.row(Import, number)
    assert (row.state, row.error, row.chunks) == ("pending", None, 1)
    shop.queue.drain()
    assert run(shop, number) == {1: None}
    shop.queue.run(imports.users, number).assert_completed(
        {"import": number, "skipped": "it is completed"}
    )


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "expected the first line to name"),
        (b"a,b\n1,2\n", "got 'a,b"),
        (b"name,email\n\xff,x@y.z\n", "expected UTF-8"),
        (b"name,email\rA,a@example.com\r", "can't be read"),
        (b"name,email,Email\nA,a@example.com,b@example.com\n", "got 'name,email,Email"),
        (b"name,email\n" + b"x" * 100_001, "lines of at most 100,000 bytes"),
        (b"PK\x03\x04\x00\x00", "expected"),
    ],
)
def test_a_file_that_is_no_csv_of_users_fails_at_once_and_its_owner_is_told(shop, data, told):
    number = uploaded(shop, data)
    imports.users.delay(number)
    shop.queue.drain()[0].assert_failed(with_=OptionError)
    assert told in shop.row(Import, number).error
    assert shop.subjects == ["Your import could not be made"]


def test_a_file_with_no_rows_ends_at_once(shop):
    number = uploaded(shop, "name,email\n")
    imports.users.delay(number)
    shop.queue.drain()
    assert shop.row(Import, number).state == "completed"
    assert shop.subjects == ["Import people.csv: 0 good, 0 bad"]


def test_a_nul_character_makes_a_bad_row_and_not_a_failed_chunk(shop):
    """PostgreSQL keeps no NUL: all rows of its chunk were bad."""
    number = uploaded(shop, "name,email\nA,a\0a@example.com\nB,b@example.com\n")
    told = run(shop, number)
    assert ("expected an address" in told[1], told[2]) == (True, None)
    with session() as db:
        kept = db.scalars(
            select(ImportRow.email).filter_by(import_id=number).order_by(ImportRow.number)
        ).all()
    assert kept == ["aa@example.com", "b@example.com"]


def test_an_import_that_is_split_again_while_its_chunks_end_stays_completed(shop, monkeypatch):
    """The job was killed behind its dispatch, and runs again: it looked before the last chunk
    ended.
    """
    number, real = uploaded(shop, "name,email\nA,a@example.com\n"), imports.split

    def slowly(file):
        monkeypatch.setattr(imports, "split", real)
        run(shop, number)
        return real(file)

    monkeypatch.setattr(imports, "split", slowly)
    shop.queue.run(imports.users, number).assert_completed(
        {"import": number, "skipped": "it is completed"}
    )
    assert shop.row(Import, number).state == "completed"
