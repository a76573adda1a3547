-- The delayed jobs that are due.
-- Index: relevo_jobs_due. {skip}: skip locked rows, where the database locks rows.
SELECT id, queue, priority, available_at, fair_key FROM relevo_jobs
WHERE state = 'delayed' AND available_at <= :now ORDER BY available_at LIMIT :limit {skip}
