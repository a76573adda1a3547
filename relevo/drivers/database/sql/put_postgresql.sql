-- Put jobs, one or thousands, in one statement. The ids are given in the order of the arrays.
INSERT INTO relevo_jobs (job_id, queue, payload, priority, unique_key, created_at, state, available_at)
SELECT job_id, queue, payload, priority, unique_key, created_at, state, available_at
FROM unnest(
    CAST(:job_id AS text[]), CAST(:queue AS text[]), CAST(:payload AS text[]), CAST(:priority AS smallint[]),
    CAST(:unique_key AS text[]), CAST(:created_at AS float8[]), CAST(:state AS text[]), CAST(:available_at AS float8[])
) WITH ORDINALITY AS new(job_id, queue, payload, priority, unique_key, created_at, state, available_at, place)
ORDER BY place
