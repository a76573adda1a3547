"""Model instances as arguments: a row travels as its identity and is loaded where the job runs.

    models.register(app, Base)      # right after create_app
    process.dispatch(order)         # {"__type__": "relevo.model", "__value__": ["Order", [7]]}

The worker's main process decodes messages too, and must not query the database. So decoding gives a
`Reference`, and the row is loaded just before the body runs: in the session of the job's
transaction, where the body may change it; without one, in a session of its own, detached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kombu.utils.json import register_type
from sqlalchemy import inspect
from sqlalchemy.orm import Session

from relevo.database.engine import engine_for
from relevo.errors import MissingModelError, OptionError, did_you_mean
from relevo.middleware import transaction

MARKER = "relevo.model"


@dataclass(frozen=True, slots=True)
class Reference:
    """A row by the name of its class and its primary key."""

    model: str
    identity: tuple[Any, ...]

    def __json__(self) -> dict[str, Any]:
        return {"__type__": MARKER, "__value__": [self.model, list(self.identity)]}


class Models:
    """The mapped classes of one declarative base, for the jobs of one app."""

    def __init__(self, base: type[Any], url: str) -> None:
        self.base, self.url = base, url

    def model_named(self, name: str) -> type[Any]:
        """The mapped class with this name. Raises OptionError."""
        known = {mapper.class_.__name__: mapper.class_ for mapper in self.base.registry.mappers}
        if name not in known:
            raise OptionError(f"no model named {name!r}{did_you_mean(name, known)}")
        return known[name]

    def load(self, reference: Reference) -> Any:
        """The row. Raises MissingModelError if it is gone."""
        model = self.model_named(reference.model)
        current = transaction.current()
        if current is not None:
            row = current.get(model, reference.identity)
        else:
            with Session(engine_for(self.url), expire_on_commit=False) as session:
                row = session.get(model, reference.identity)
        if row is None:
            key = ", ".join(map(str, reference.identity))
            raise MissingModelError(
                f"{reference.model} {key} is gone: it was there when the job was dispatched."
            )
        return row


def register(app: Any, base: type[Any]) -> None:
    """Allow rows of `base`'s classes as arguments of jobs, loaded from DATABASE_URL.

    Call it before the tasks are used. Messages hold a class's name: renaming the class breaks the
    jobs that wait.
    """
    if not hasattr(base, "registry"):
        raise OptionError(f"expected a declarative base of SQLAlchemy, got {base!r}")
    app.models = Models(base, app.settings.database_url)
    register_type(base, MARKER, _identity, _reference)


def resolve(task: Any, value: Any) -> Any:
    """`value` with every reference in it, also in lists and dicts, replaced by its row."""
    match value:
        case Reference() if task.app.models is not None:
            return task.app.models.load(value)
        case list() | tuple():
            return (
                type(value)(resolve(task, each) for each in value)
                if type(value) in (list, tuple)
                else value
            )
        case Mapping() if type(value) is dict:
            return {key: resolve(task, each) for key, each in value.items()}
    return value


def _identity(instance: Any) -> list[Any]:
    key = inspect(instance).identity
    if key is None:
        raise OptionError(
            f"expected a saved {type(instance).__name__}, got one without an id: flush it first"
        )
    return [type(instance).__name__, list(key)]


def _reference(value: Any) -> Reference:
    name, key = value
    return Reference(str(name), tuple(key))
