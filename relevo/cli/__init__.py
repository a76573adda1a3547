"""Sub-commands of `celery -A tasks …`: noun, then verb. A table for people, `--json` for machines.

They are found by Celery through the entry points in `pyproject.toml`. Exit codes: 0 done, 1 failed,
2 misused.
"""
