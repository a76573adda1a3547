-- The query of an idle worker: is a job pending, and when does the next delayed job, lease or pause
-- end?
-- Indexes: relevo_jobs_next, relevo_jobs_due, relevo_jobs_ended. It reads a few index entries and
-- takes no lock.
-- Not for PostgreSQL, whose plan reads the whole table for this EXISTS when its statistics know
-- many pending jobs and there is none: there a worker claims, and runs next_due.sql when it found
-- nothing.
SELECT
    EXISTS (
        SELECT 1 FROM relevo_jobs
        WHERE queue IN :queues AND state = 'pending'
          AND queue NOT IN (SELECT p.queue FROM relevo_pauses p WHERE p.until IS NULL OR p.until > :now)
    ) AS pending,
    (SELECT MIN(available_at) FROM relevo_jobs WHERE state = 'delayed') AS due,
    (SELECT MIN(reserved_until) FROM relevo_jobs WHERE state = 'reserved') AS ended,
    (SELECT MIN(until) FROM relevo_pauses WHERE until > :now) AS resumed
