-- The jobs whose lease has ended.
-- Index: relevo_jobs_ended. {skip}: skip locked rows, where the database locks rows.
SELECT id FROM relevo_jobs
WHERE state = 'reserved' AND reserved_until <= :now ORDER BY reserved_until LIMIT :limit {skip}
