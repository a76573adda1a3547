"""The engine's own tables, by Alembic. An application's migrations are its own and have their own
version table.
"""
