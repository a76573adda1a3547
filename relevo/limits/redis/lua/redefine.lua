-- Let another rate count for a name, or (nothing behind the name) the one in the code again.
-- ARGV: time, name, amount, per, kind, burst. Atomic, because it is one write.
if ARGV[3] then
    local rate = {tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])}
    redis.call('HSET', limit_rates_key, ARGV[2], cmsgpack.pack(rate))
else
    redis.call('HDEL', limit_rates_key, ARGV[2])
end
return 0
