-- Take the next jobs of one queue, inside BEGIN IMMEDIATE.
-- Index: relevo_jobs_next.
UPDATE relevo_jobs
SET state = 'reserved', reserved_until = :until, reserved_by = :by, token = :token || id,
    attempts = attempts + 1
WHERE id IN (
    SELECT id FROM relevo_jobs
    WHERE queue = :queue AND state = 'pending'
    ORDER BY priority, available_at, id
    LIMIT :limit
)
RETURNING id, queue, job_id, payload, priority, attempts, rescues, available_at
