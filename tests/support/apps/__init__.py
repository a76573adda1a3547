"""Celery apps that the tests here start workers of, as somebody else's project would."""
