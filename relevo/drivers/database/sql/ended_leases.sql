-- Which leases have ended. Index: relevo_jobs_ended. Row locks are skipped where the database has them ({skip}).
SELECT id FROM relevo_jobs WHERE state = 'reserved' AND reserved_until <= :now ORDER BY reserved_until LIMIT :limit {skip}
