"""Rows as arguments travel as their identity and are loaded where the job runs."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from relevo import config
from relevo.app import create_app
from relevo.database.engine import engine_for
from relevo.errors import MissingModelError, OptionError
from relevo.execution import models
from relevo.execution.models import Reference
from relevo.middleware import Transaction
from relevo.testing import fake


class Base(DeclarativeBase):
    """The project's."""


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(String(20), default="new")


@pytest.fixture
def shop(tmp_path):
    settings = config.load(
        {"DATABASE_URL": f"sqlite:///{tmp_path}/shop.db", "RELEVO_VAR_DIR": str(tmp_path)}, None
    )
    app = create_app("shop", settings)
    models.register(app, Base)
    Base.metadata.create_all(engine_for(settings.database_url))
    yield app
    engine_for(settings.database_url).dispose()


@pytest.fixture
def order(shop):
    with session(shop) as opened, opened.begin():
        opened.add(Order(id=7))
    with session(shop) as opened:
        return opened.get(Order, 7)


def session(app):
    return Session(engine_for(app.settings.database_url), expire_on_commit=False)


@pytest.fixture
def ship(shop):
    @shop.task(name="ship", shared=False)
    def ship(order, others=(), by=None):
        return [order.status, [other.id for other in others], by and by["order"].id]

    return ship


def test_a_row_travels_as_its_identity_and_is_loaded_again(shop, ship, order):
    with fake(app=shop) as fakes:
        ship.dispatch(order, [order], by={"order": order})
        [record] = fakes.pending()
        sent = json.dumps(record.message, default=str) + str(record.args)
        assert "sqlite" not in sent
        [attempt] = fakes.drain()
    attempt.assert_completed(["new", [7], 7])


def test_the_message_has_the_class_and_the_key_of_a_row(order):
    from kombu.utils.json import dumps, loads  # noqa: PLC0415

    text = dumps([order])
    assert json.loads(text) == [{"__type__": "relevo.model", "__value__": ["Order", [7]]}]
    assert loads(text) == [Reference("Order", (7,))]
    assert dumps(loads(text)) == text


def test_a_row_that_is_gone_fails_the_job_or_drops_it_quietly(shop, ship, order):
    @shop.task(name="quiet", shared=False, tries=3, delete_when_missing=True)
    def quiet(order): ...

    with fake(app=shop) as fakes:
        ship.dispatch(order)
        quiet.dispatch(order)
        quiet.with_options(delete_when_missing=False, tries=1).dispatch(order)
        with session(shop) as opened, opened.begin():
            opened.delete(opened.get(Order, 7))
        first, second, third = fakes.drain()
    first.assert_failed(with_=MissingModelError)
    first.assert_failed(with_="Order 7 is gone")
    second.assert_cancelled("Order 7 is gone")
    third.assert_failed(with_=MissingModelError)


def test_in_a_transaction_a_row_belongs_to_its_session(shop, order):
    @shop.task(name="pay", shared=False, middleware=[Transaction()])
    def pay(order):
        order.status = "paid"

    with fake(app=shop) as fakes:
        pay.dispatch(order)
        fakes.drain()
    with session(shop) as opened:
        assert opened.get(Order, 7).status == "paid"


def test_a_tasks_own_errors_can_mean_that_a_row_is_gone(shop):
    class NoFileError(Exception):
        """Of the project."""

    @shop.task(name="own", shared=False, delete_when_missing=NoFileError)
    def own(error):
        raise error

    assert own.sync(NoFileError("x")).state == "SUCCESS"
    assert own.sync(KeyError("x")).state == "FAILURE"


def test_a_row_without_an_id_can_not_travel(shop, ship):
    with (
        fake(app=shop),
        pytest.raises(Exception, match="expected a saved Order, got one without an id"),
    ):
        ship.dispatch(Order())


def test_an_unknown_model_is_an_error_of_the_job(shop, ship):
    result = ship.sync(Reference("Odrer", (7,)))
    assert isinstance(result.result, OptionError)
    assert "did you mean 'Order'" in str(result.result)


@pytest.mark.parametrize("bad", [1, "yes", [KeyError], (KeyError, 7), BaseException])
def test_the_option_for_missing_rows_is_checked(shop, bad):
    with pytest.raises(
        OptionError,
        match="expected delete_when_missing to be True, False or classes of errors, got",
    ):
        shop.task(name="bad", shared=False, delete_when_missing=bad)(print)


def test_only_a_base_can_be_registered(shop):
    with pytest.raises(
        OptionError, match="expected a declarative base of SQLAlchemy, got <class 'int'>"
    ):
        models.register(shop, int)
