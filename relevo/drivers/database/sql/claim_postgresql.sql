-- Ack the jobs that are done and take the next jobs of several queues, in strict order.
-- Indexes: the primary key, relevo_jobs_next.
-- One statement is one transaction and one round trip. The queues are walked one after the other,
-- and only as far as needed: a CTE keeps its order, LATERAL makes it the outer loop, and a row is
-- locked when it is reached.
-- MATERIALIZED and ARRAY(): with plain subqueries the planner may run `next` again for each row and
-- take more than the limit, or read the whole table where it expects many rows.
WITH acked AS (
    DELETE FROM relevo_jobs WHERE id = ANY (CAST(:ids AS bigint[])) AND token = ANY (CAST(:tokens AS text[]))
),
wanted AS MATERIALIZED (
    SELECT queue FROM unnest(CAST(:queues AS text[])) WITH ORDINALITY AS asked(queue, place)
    WHERE NOT EXISTS (
        SELECT 1 FROM relevo_pauses p WHERE p.queue = asked.queue AND (p.until IS NULL OR p.until > :now)
    )
    ORDER BY place
),
next AS MATERIALIZED (
    SELECT job.id FROM wanted CROSS JOIN LATERAL (
        SELECT id FROM relevo_jobs
        WHERE queue = wanted.queue AND state = 'pending'
        ORDER BY priority, available_at, id
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ) AS job
    LIMIT :limit
)
UPDATE relevo_jobs
SET state = 'reserved', reserved_until = :until, reserved_by = :by, token = CAST(:token AS text) || id,
    attempts = attempts + 1
WHERE id = ANY (ARRAY(SELECT id FROM next))
RETURNING id, queue, job_id, payload, priority, attempts, rescues, available_at
