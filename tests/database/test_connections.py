"""What the connections of one process to a server share."""

from __future__ import annotations

from relevo.database.engine import make_engine


def test_connections_to_mariadb_share_the_certificates_that_one_has_read(mariadb_url):
    engine = make_engine(mariadb_url)
    with engine.connect() as one, engine.connect() as other:
        first, second = (each.connection.driver_connection for each in (one, other))
        assert first is not second
        assert first.ctx is second.ctx
    engine.dispose()
