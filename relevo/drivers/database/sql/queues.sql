-- The names of all queues. It hops from one to the next on the index; DISTINCT would read an entry
-- for each job.
-- Index: relevo_jobs_next. Not for MySQL, which reads every entry for the inner MIN.
WITH RECURSIVE found (queue) AS (
    SELECT MIN(queue) FROM relevo_jobs
    UNION ALL
    SELECT (SELECT MIN(queue) FROM relevo_jobs WHERE queue > found.queue) FROM found WHERE found.queue IS NOT NULL
)
SELECT queue FROM found WHERE queue IS NOT NULL
