"""One module a system: the same two jobs, its best sane setting on two cores, and how to hand jobs in.

Each has `WORKERS` (label -> command), `enqueue(count)` and `trickle()` (one job that reports how late it started).
"""
