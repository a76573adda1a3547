-- Give a permit back; who is next in line is due now. ARGV: time, key, token. Returns the ids of those.
-- Atomic, because who is called must find the room that was counted.
begin()
local key = ARGV[2]
redis.call('HDEL', limit_permits_key(key), ARGV[3])
if redis.call('EXISTS', limit_since_key(key)) == 0 then return {} end
local room = (tonumber(redis.call('GET', limit_most_key(key)) or '0')) - #holders(key) - ahead(key, '', nil, GRACE)
local called, at = {}, 0
while #called < room do
    local next = redis.call('ZRANGE', limit_since_key(key), at, at + 99)
    if #next == 0 then break end
    for _, id in ipairs(next) do
        local due = tonumber(redis.call('ZSCORE', limit_due_key(key), id) or '')
        if #called < room and due and due > now then called[#called + 1] = id end
    end
    at = at + 100
end
for _, id in ipairs(called) do redis.call('ZADD', limit_due_key(key), string.format('%.17g', now), id) end
return called
