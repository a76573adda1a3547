"""`make dev`: every program of the Procfile at once, in one terminal, started again when it ends or
the code changes.

Each is a process in a group of its own. It ends: it is started again, after a wait that grows. A
file changes: all are.
"""
