-- When does the next delayed job, lease or pause end? Indexes: relevo_jobs_due, relevo_jobs_ended.
SELECT
    (SELECT MIN(available_at) FROM relevo_jobs WHERE state = 'delayed') AS due,
    (SELECT MIN(reserved_until) FROM relevo_jobs WHERE state = 'reserved') AS ended,
    (SELECT MIN(until) FROM relevo_pauses WHERE until > :now) AS resumed
