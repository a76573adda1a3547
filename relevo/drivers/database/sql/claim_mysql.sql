-- Lock the next jobs of one queue; take_mysql.sql then marks them, in the same transaction.
-- Index: relevo_jobs_next.
-- Paused queues are read beforehand: the rows of a subquery would be locked, too.
SELECT id, queue, job_id, payload, priority, attempts + 1 AS attempts, rescues, available_at
FROM relevo_jobs
WHERE queue = :queue AND state = 'pending'
ORDER BY priority, available_at, id
LIMIT :limit
FOR UPDATE SKIP LOCKED
