"""Limits in the database of the jobs: SQLite, PostgreSQL, MySQL, MariaDB."""
