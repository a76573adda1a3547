"""Relevo: background jobs on Celery in which no job is lost and none runs twice by accident."""

__version__ = "0.1.0"
