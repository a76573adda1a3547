"""The Alembic migrations of Relevo's own tables.

An application has migrations of its own, with a version table of its own.
"""
