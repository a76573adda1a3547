"""A POST with an Idempotency-Key, whose process is killed around each commit, or which is asked
several times at once: it is done once, and answered the same. A real server, on SQLite and on
PostgreSQL, with its jobs in the same database.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from sqlalchemy import func, select, text

from app import settings
from app.models import Answer, Case, File, User, schema, session
from relevo.database.engine import engine_for
from relevo.drivers.database.driver import DatabaseDriver
from tests.support.company import own_database
from tests.support.pictures import saved, scene
from tests.support.waits import LONG
from web.access import new_token

ROOT = Path(__file__).parents[2]
#: More moments than a request has.
MANY = 20
PICTURE = saved(scene(40, 30), "PNG").getvalue()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request, tmp_path_factory):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('once')}/relevo.db"
    else:
        with own_database(request.getfixturevalue("postgresql_url"), "once") as url:
            yield url


@pytest.fixture(scope="module")
def mortal(database, tmp_path_factory):
    """The server on this database, and what can be asked of it."""
    folder = tmp_path_factory.mktemp("mortal")
    DatabaseDriver(database).create_schema()
    schema.upgrade(engine_for(database))
    kept = {
        name: os.environ[name]
        for name in os.environ
        if not name.startswith(("REDIS_", "QUEUE_", "RELEVO_"))
    }
    environment = {
        **kept,
        "DATABASE_URL": database,
        "RELEVO_VAR_DIR": str(folder),
        "QUEUE_CONNECTION": "database",
        "RELEVO_SECRET": "s" * 40,
        "PYTHONPATH": str(ROOT),
        "APP_REQUESTS_A_MINUTE": "100000",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", database)
        settings.engine.cache_clear()
        with session() as db:
            user = User(name="Ada", email="ada@example.com")
            db.add(user)
        token, _ = new_token(user.id, "t", ["*"], 1)
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crashing_api"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            where = f"http://127.0.0.1:{int(server.stdout.readline())}/api"
            auth = {"Authorization": f"Bearer {token}"}
            yield SimpleNamespace(
                url=where, auth=auth, folder=folder, user=user.id, database=database
            )
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            server.stdout.close()
            engine_for(database).dispose()
    settings.engine.cache_clear()


def ask(mortal, path, key, body, **headers):
    """A request on a connection of its own: the last one's process may be dead."""
    given = {"content": body} if isinstance(body, bytes) else {"json": body}
    return httpx.post(
        f"{mortal.url}/{path}",
        headers={**mortal.auth, "Idempotency-Key": key, **headers},
        timeout=LONG,
        verify=False,
        **given,
    )


def count(what):
    with session() as db:
        return db.scalar(select(func.count()).select_from(what))


def files(mortal):
    return len(list((mortal.folder / "files").rglob("*.png")))


JOBS = text("relevo_jobs")
#: What is asked, and what it leaves each time: a row and a job, a job, a file and a row.
ROUTES = [
    (lambda n: ("cases", {"number": f"AZ {n}"}), [Case, JOBS]),
    (lambda n: ("send-notification", {"subject": f"{n}", "message": "m"}), [JOBS]),
    (lambda n: (f"files?name={n}.png", PICTURE), [File]),
]


def test_a_request_killed_around_any_commit_and_repeated_is_done_once(mortal):
    """On PostgreSQL one of the routes is enough: what differs is the database."""
    for route, left in ROUTES if mortal.database.startswith("sqlite") else ROUTES[:1]:
        moment, died = 0, True
        while died:
            moment += 1
            assert moment < MANY
            died = killed(
                mortal, f"{len(left)} {left[0]} {moment}"[-64:], *route(moment), moment, left
            )
        assert moment > 4, "it was not killed around the two commits that there are"


def killed(mortal, key, path, body, moment, left):
    """Ask, ask again if the process died at this moment, and once more. Returns whether it died."""
    before = [count(each) for each in left]
    died = False
    try:
        first = ask(mortal, path, key, body, **{"Dies-At": str(moment)})
    except httpx.TransportError:
        died, first = True, ask(mortal, path, key, body)
    again = ask(mortal, path, key, body)
    assert first.status_code in {201, 202}, first.text
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert [count(each) for each in left] == [number + 1 for number in before]
    return died


def test_concurrent_equal_requests_are_done_once_and_all_get_the_answer(mortal):
    before = [count(Case), count(JOBS)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(lambda _: ask(mortal, "cases", "many", {"number": "many"}), range(6))
        )
    assert {answer.status_code for answer in answers} == {202}, [answer.text for answer in answers]
    assert len({json.dumps(answer.json()) for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 5
    assert [count(Case), count(JOBS)] == [before[0] + 1, before[1] + 1]


def test_a_repeated_upload_leaves_one_file(mortal):
    before = files(mortal)
    answers = [ask(mortal, "files?name=again.png", "upload", PICTURE) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert files(mortal) == before + 1
    other = ask(mortal, "files?name=another.png", "upload", PICTURE)
    assert (other.status_code, other.headers["content-type"]) == (422, "application/problem+json")
    assert ask(mortal, "files?name=again.png", "upload", PICTURE + b"x").status_code == 422
    assert files(mortal) == before + 1


def test_a_request_that_is_refused_leaves_no_file_and_its_key_free(mortal):
    before = files(mortal)
    for key in ("free", "free"):
        assert ask(mortal, "cases", key, {"number": "twice"}).status_code == 202
        assert ask(mortal, "cases", "other", {"number": "twice"}).status_code == 409
    assert ask(mortal, "cases", "other", {"number": "thrice"}).status_code == 202
    assert ask(mortal, "imports?name=a.csv", "forbidden", b"name,email\n").status_code == 403
    assert files(mortal) == before


def test_a_request_during_the_first_one_waits_for_it_within_a_limit(
    mortal,
):
    with ThreadPoolExecutor(1) as pool:
        with suppress(ZeroDivisionError), session() as db:
            db.add(Answer(user_id=mortal.user, key="held", fingerprint="f"))
            db.flush()
            waiting = pool.submit(ask, mortal, "cases", "held", {"number": "held"})
            if not mortal.database.startswith(
                "sqlite"
            ):  # there it waits for as long as for any other
                answer = waiting.result()
                assert (answer.status_code, answer.headers["content-type"]) == (
                    409,
                    "application/problem+json",
                )
                assert "under way" in answer.json()["detail"]
                waiting = None
            raise ZeroDivisionError  # the first one comes to nothing
        answer = waiting.result() if waiting else ask(mortal, "cases", "held", {"number": "held"})
    assert answer.status_code == 202
