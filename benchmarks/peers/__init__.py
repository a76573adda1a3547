"""A module for each system: two jobs, its best setting on two cores, and how to hand jobs in.

Each has `WORKERS` (label -> command), `enqueue(count)`, and `trickle()`, which dispatches one job
that reports how late it started.
"""
