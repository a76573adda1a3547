-- Replace the rate of a name, or (with nothing after the name) let the one in the code count again.
-- ARGV: time, name, amount, per, kind, burst.
-- Returns the ids of the jobs that wait at keys of the name, first come first for each key.
-- Atomic, so that every job that was refused by the old rate is among them.
if ARGV[3] then
    local rate = {tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])}
    redis.call('HSET', limit_rates_key, ARGV[2], cmsgpack.pack(rate))
else
    redis.call('HDEL', limit_rates_key, ARGV[2])
end
local waiting, prefix = {}, 'rate/' .. ARGV[2] .. '/'
for _, key in ipairs(redis.call('ZRANGE', limits_key, 0, -1)) do
    if string.sub(key .. '/', 1, #prefix) == prefix then
        for _, id in ipairs(redis.call('ZRANGE', limit_since_key(key), 0, -1)) do waiting[#waiting + 1] = id end
    end
end
return waiting
