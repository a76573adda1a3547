-- Which delayed jobs are due. Index: relevo_jobs_due. Row locks are skipped where the database has them ({skip}).
SELECT id, queue, priority, available_at, fair_key FROM relevo_jobs
WHERE state = 'delayed' AND available_at <= :now ORDER BY available_at LIMIT :limit {skip}
