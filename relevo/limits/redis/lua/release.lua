-- Give a permit back; who is next in line is due now. ARGV: time, key, token. Returns the ids of those.
-- Atomic, because who is called must find the room that was counted.
begin()
redis.call('HDEL', limit_permits_key(ARGV[2]), ARGV[3])
return call_next(ARGV[2])
