"""The database driver: jobs in one table of SQLite, PostgreSQL, MySQL or MariaDB."""
