-- End a suspension: the jobs parked for it are due. ARGV: time, what, the most that are made due now. Returns how many.
-- Atomic, because nothing may be parked for it any more. In portions, because a million in one call would stop Redis.
begin()
local key, what = parked_key(ARGV[2]), ARGV[2]
if redis.call('HEXISTS', suspended_key, what) == 1 then
    redis.call('HSET', suspended_key, what, string.format('%.17g', now))
end
local back = redis.call('ZRANGE', key, 0, tonumber(ARGV[3]) - 1)
for _, number in ipairs(back) do unpark(what, number) end
if redis.call('EXISTS', key) == 0 then redis.call('HDEL', suspended_key, what) end
return #back
