"""What runs by the clock: entries of `beat_schedule`, each dispatched once a tick, by any number of
beats.

    ticks.py     when a schedule is due: instants that follow from the schedule alone, so all beats agree    (pure)
    catchup.py   which of the ticks that have passed are run                                                 (pure)
    entry.py     the entries of an app, checked
    turn.py      an entry's turn: claim and job in one transaction of the store
    beat.py      the scheduler that `celery beat` runs
    embedded.py  the beat in a worker, `celery worker -B`
    in_place.py  the scheduler of an app that runs its jobs in place
    words.py     a schedule for people

What they keep is in relevo/store/schedules.py.
"""
