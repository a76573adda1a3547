"""Sub-commands of `celery -A tasks …`: a noun, then a verb. They print a table, or JSON (`--json`).

Celery finds them by the entry points in `pyproject.toml`. Exit codes: 0 done, 1 failed, 2 wrong
usage. `context` has the broker and the store; `options` and `output` serve all commands.
"""
