"""The store: what happened, in SQL. The broker holds only what is still to be done.

It keeps failed jobs, history, metrics, batches, the schedule's runs, the outbox, receipts and the
audit log. `outcomes.py` writes the ends of jobs into all of them in one transaction.
"""
