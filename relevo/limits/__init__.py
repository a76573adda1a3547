"""Limits over the whole cluster: permits (no overlap, at most n at once), rates, and breakers that
open after errors.

They live where the jobs live: on Redis with a Redis broker, in the same database with a database
broker. What may be counted, and how, is pure (`rates.py`, `breakers.py`, `line.py`); `contract.py`
is what a store of limits promises.
"""
