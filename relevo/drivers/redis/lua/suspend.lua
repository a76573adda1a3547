-- Begin a suspension, or move its end: some of the jobs parked to another end come back, to be parked anew.
-- ARGV: time, what, its end or '', the end of one that has none, the most that come back. Returns how many did.
-- Atomic, because what is parked meanwhile must be parked to the new end.
begin()
redis.call('HSET', suspended_key, ARGV[2], ARGV[3])
local till, back = tonumber(ARGV[3] == '' and ARGV[4] or ARGV[3]), {}
for _, number in ipairs(redis.call('ZRANGEBYSCORE', parked_key(ARGV[2]), '-inf', string.format('(%.17g', till),
                                   'LIMIT', 0, ARGV[5])) do back[#back + 1] = number end
for _, number in ipairs(redis.call('ZRANGEBYSCORE', parked_key(ARGV[2]), string.format('(%.17g', till), '+inf',
                                   'LIMIT', 0, ARGV[5])) do back[#back + 1] = number end
for _, number in ipairs(back) do unpark(ARGV[2], number) end
return #back
