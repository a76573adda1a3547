-- End the pause of a queue and tell an idle worker. ARGV: time, queue.
-- Atomic, because a queue that is open again and told to nobody would wait.
begin()
redis.call('HDEL', paused_key, ARGV[2])
ring(ARGV[2], 1)
