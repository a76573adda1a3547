"""Where jobs wait: one contract, a driver per broker, and the kombu transport that lets Celery use them."""
