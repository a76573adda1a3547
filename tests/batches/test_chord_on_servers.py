"""Chords on PostgreSQL and MariaDB, with broker, store and results in one database."""

from __future__ import annotations

import pytest

from relevo.drivers import driver_for
from tests.batches import test_chord as chords
from tests.support.batch_tasks import working
from tests.support.chord_tasks import app_on

# What differs from PostgreSQL is how rows are locked and written: a few of the shapes do all of it.
FEW = ("chain that ends in a group", "chord in it", "in a chain")


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def shop(request, tmp_path_factory):
    url = request.getfixturevalue(f"{request.param}_url")
    driver_for(url).create_schema()
    shop = app_on(
        "database", tmp_path_factory.mktemp(f"chords-{request.param}"), {"DATABASE_URL": url}
    )
    if request.param == "mariadb":
        shop.shapes = FEW
    with working(shop.app, concurrency=4):
        yield shop


test_shapes = chords.test_every_shape_of_canvas_gives_celerys_result
test_a_failure = chords.test_a_failing_member_calls_the_error_callbacks_once_and_the_body_never
test_a_retry = chords.test_a_failed_member_that_is_retried_and_completes_lets_the_body_run
test_a_redelivery = chords.test_a_member_that_is_delivered_twice_counts_once_and_the_body_runs_once
test_a_link_that_comes_twice = chords.test_a_link_that_is_delivered_twice_starts_its_chord_once
