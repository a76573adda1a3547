"""Celery apps for the workers that tests start, each like a project of its own."""
