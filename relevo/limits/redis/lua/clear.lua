-- Delete a key.
-- ARGV: time, key.
-- Returns the ids of its waiting jobs, first come first.
-- Atomic, because no job may take a permit of a key that is half deleted.
begin()
local key = ARGV[2]
local waiting = redis.call('ZRANGE', limit_since_key(key), 0, -1)
redis.call('DEL', limit_state_key(key), limit_permits_key(key), limit_most_key(key), limit_due_key(key),
           limit_since_key(key))
redis.call('ZREM', limits_key, key)
return waiting
