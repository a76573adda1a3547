"""Every task lands in its queue, as Celery's own router says, and every queue is declared."""

import types

import celery
import pytest
from celery.app.defaults import SETTING_KEYS

import beat_schedule
import celeryconfig
from relevo import config
from relevo.app import create_app

# Five of more and less urgency, and one for each kind of work that must not wait for another.
QUEUES = {
    "critical",
    "high",
    "default",
    "low",
    "long",
    "transactional",
    "marketing",
    "exports",
    "imports",
    "webhooks",
}


@pytest.fixture(scope="module")
def app() -> celery.Celery:
    app = create_app("routes", config.load({}, env_file=None))
    app.config_from_object("celeryconfig")
    return app


def queue_of(app: celery.Celery, task: str, **options: str) -> str:
    return app.amqp.router.route(options, task)["queue"].name


@pytest.mark.parametrize(
    ("task", "queue"),
    [
        ("images.process", "default"),
        ("email.send", "transactional"),
        ("email.send_marketing", "marketing"),
        ("reports.generate", "long"),
        ("exports.attendees", "exports"),
        ("imports.users", "imports"),
        ("webhooks.deliver", "webhooks"),
        ("catalog.copy_to_store", "long"),
        ("cases.fetch", "high"),
        ("events.process", "default"),
        ("orders.pay", "critical"),
        ("cleanup.temporary_files", "low"),
        ("celery.backend_cleanup", "low"),
        ("celery.chord_unlock", "default"),
        ("nobody.routed_this", "default"),
    ],
)
def test_a_task_lands_in_its_queue(app, task, queue):
    assert queue_of(app, task) == queue


def test_the_queue_of_a_dispatch_goes_before_the_route(app):
    assert queue_of(app, "cleanup.temporary_files", queue="critical") == "critical"


def test_an_undeclared_queue_is_refused_at_the_dispatch(app):
    with pytest.raises(celery.exceptions.QueueNotFound, match="hihg"):
        queue_of(app, "images.process", queue="hihg")


def test_every_queue_is_declared_once(app):
    assert set(celeryconfig.QUEUES) == QUEUES
    assert len(celeryconfig.QUEUES) == len(QUEUES)
    assert list(app.amqp.queues) == list(celeryconfig.QUEUES)
    assert all(app.amqp.queues[name].routing_key == name for name in QUEUES)


def test_every_route_leads_to_a_declared_queue():
    assert {queue for routes in celeryconfig.task_routes for _, queue in routes} <= QUEUES


def test_the_queue_of_every_connection_is_declared():
    assert {
        connection.queue for connection in config.load({}, env_file=None).connections.values()
    } <= QUEUES


def test_every_task_of_the_application_is_routed_and_named_after_its_module():
    from tasks import app as application  # noqa: PLC0415  it reads the settings of this machine

    application.loader.import_default_modules()
    ours = {
        name: task
        for name, task in application.tasks.items()
        if task.__module__.startswith("tasks.")
    }
    assert "cleanup.temporary_files" in ours
    for name, task in ours.items():
        assert name.partition(".")[0] == task.__module__.split(".")[1]
        assert application.amqp.router.lookup_route(name, options={}) is not None, (
            f"{name} has no route"
        )


def test_every_scheduled_task_exists_and_goes_to_a_declared_queue():
    from tasks import app as application  # noqa: PLC0415  it reads the settings of this machine

    application.loader.import_default_modules()
    for entry in beat_schedule.BEAT_SCHEDULE.values():
        assert entry["task"] in application.tasks
        assert entry["options"]["queue"] in QUEUES


def test_celery_knows_every_setting_of_the_application():
    settings = {
        name
        for name, value in vars(celeryconfig).items()
        if name.islower() and not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert settings
    assert settings <= SETTING_KEYS
