"""Limits over all workers: permits (no overlap, at most n at once), rates, and breakers for errors.

Limits are stored where the jobs are: on Redis with a Redis broker, in the same database with a
database broker. `contract.py` says what a store of limits promises. The rules are pure and shared
by the stores: `rates.py`, `breakers.py` and `waiters.py` have them, `algorithms.py` joins them.
"""
