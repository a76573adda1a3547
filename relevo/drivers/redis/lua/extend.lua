-- Renew leases.
-- ARGV: time, lease, then for each: number, token.
-- Returns the tokens of lost leases.
-- Atomic, because a lease must be checked and renewed in one step.
begin()
local lost, ends = {}, now + tonumber(ARGV[2])
for at = 3, #ARGV, 2 do
    local job = held(ARGV[at], ARGV[at + 1])
    if job then
        redis.call('ZADD', reserved_key(job[QUEUE]), 'XX', ends, ARGV[at])
        note_lease(job[QUEUE], ends)
    else
        lost[#lost + 1] = ARGV[at + 1]
    end
end
return lost
