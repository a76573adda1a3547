"""The statements that a driver sends to its database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event

if TYPE_CHECKING:
    from collections.abc import Callable

    from relevo.drivers.database.driver import DatabaseDriver


def statements_of(
    driver: DatabaseDriver, verb: Callable[[DatabaseDriver], Any]
) -> list[tuple[str, Any]]:
    """Each statement of `verb`, BEGIN among them, with its parameters."""
    said: list[tuple[str, Any]] = []
    listen = lambda _connection, _cursor, statement, parameters, *_: said.append(  # noqa: E731
        (statement, parameters)
    )
    event.listen(driver.connections.engine, "before_cursor_execute", listen)
    try:
        verb(driver)
    finally:
        event.remove(driver.connections.engine, "before_cursor_execute", listen)
    return said
