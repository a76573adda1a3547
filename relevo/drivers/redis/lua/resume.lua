-- End the pause of a queue, and wake an idle worker.
-- ARGV: time, queue.
-- Atomic, because the jobs of a resumed queue would wait if no worker were told.
begin()
redis.call('HDEL', paused_key, ARGV[2])
notify(ARGV[2], 1)
