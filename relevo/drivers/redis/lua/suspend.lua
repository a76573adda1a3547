-- Begin a suspension, or move its end: then jobs that are parked to another end come back, to be
-- parked anew.
-- ARGV: time, target, its end or '', the end of a suspension without an end, the most jobs that
--       come back.
-- Returns how many came back.
-- Atomic, because jobs that are parked meanwhile must be parked to the new end.
begin()
redis.call('HSET', suspended_key, ARGV[2], ARGV[3])
local till, found = tonumber(ARGV[3] == '' and ARGV[4] or ARGV[3]), {}
local key, not_till = parked_key(ARGV[2]), string.format('(%.17g', till)
for _, number in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', not_till, 'LIMIT', 0, ARGV[5])) do
    found[#found + 1] = number
end
for _, number in ipairs(redis.call('ZRANGEBYSCORE', key, not_till, '+inf', 'LIMIT', 0, ARGV[5])) do
    found[#found + 1] = number
end
for _, number in ipairs(found) do unpark(ARGV[2], number) end
return #found
