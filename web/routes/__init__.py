"""The routes, one module a subject. `ALL` is their order in the documentation."""

from web.routes import business, documents, events, files, health, mail, queues, users

ALL = (
    users.router,
    files.router,
    mail.router,
    documents.router,
    events.router,
    business.router,
    queues.router,
    health.router,
)
