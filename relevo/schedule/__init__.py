"""The schedule: entries of `beat_schedule`, each dispatched once a tick, by any number of beats.

    ticks.py         when a schedule is due, the same for every beat (pure)
    catchup.py       which missed ticks are run (pure)
    entry.py         the entries of an app, checked
    claim.py         claims due ticks and dispatches their jobs, in one transaction of the store
    beat.py          the scheduler that `celery beat` runs
    worker_beat.py   the beat inside a worker, `celery worker -B`
    inline.py        the scheduler of an app that runs its jobs inline
    descriptions.py  describes a schedule to people
    operations.py    what the command line and the dashboard show and do

`relevo/store/schedules.py` keeps the state of the entries and their runs.
"""
