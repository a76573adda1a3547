-- Mark the jobs that claim_mysql.sql has locked as reserved.
-- Index: the primary key.
UPDATE relevo_jobs
SET state = 'reserved', reserved_until = :until, reserved_by = :by, token = CONCAT(:token, id),
    attempts = attempts + 1
WHERE id IN :ids
