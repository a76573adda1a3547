-- End a suspension: the jobs that are parked for it are due.
-- ARGV: time, target, the most jobs that are made due now.
-- Returns how many were.
-- Atomic, because no more jobs may be parked for it.
-- In portions, because a million jobs in one call would block Redis.
begin()
local key, target = parked_key(ARGV[2]), ARGV[2]
if redis.call('HEXISTS', suspended_key, target) == 1 then
    redis.call('HSET', suspended_key, target, string.format('%.17g', now))
end
local found = redis.call('ZRANGE', key, 0, tonumber(ARGV[3]) - 1)
for _, number in ipairs(found) do unpark(target, number) end
if redis.call('EXISTS', key) == 0 then redis.call('HDEL', suspended_key, target) end
return #found
