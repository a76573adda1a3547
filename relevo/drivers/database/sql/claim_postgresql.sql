-- Take the next jobs of one queue. Index: relevo_jobs_next.
-- MATERIALIZED: joined as a plain subquery the planner may run it again per row and take more than the limit.
WITH next AS MATERIALIZED (
    SELECT id FROM relevo_jobs
    WHERE queue = :queue AND state = 'pending'
      AND NOT EXISTS (SELECT 1 FROM relevo_pauses p WHERE p.queue = :queue AND (p.until IS NULL OR p.until > :now))
    ORDER BY priority, available_at, id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
UPDATE relevo_jobs AS job
SET state = 'reserved', reserved_until = :until, reserved_by = :by, token = :token || job.id, attempts = attempts + 1
FROM next
WHERE job.id = next.id
RETURNING job.id, job.job_id, job.payload, job.priority, job.attempts, job.rescues, job.available_at
