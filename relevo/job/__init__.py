"""The life of a job: dispatch, attempts, outcome. `task.Task` is where it begins, `outcome.decide`
where it turns.
"""
