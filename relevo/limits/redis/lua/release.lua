-- Give a permit back, and call the next waiting jobs.
-- ARGV: time, key, token.
-- Returns the ids of the called jobs.
-- Atomic, because a called job must find the room that was counted.
begin()
redis.call('HDEL', limit_permits_key(ARGV[2]), ARGV[3])
return call_next(ARGV[2])
