-- Put back what a reservation took whose answer was lost: nobody has seen those jobs, so no attempt is counted.
-- ARGV: time, the token's beginning, queues. Returns how many. Looks at all that is reserved: for a rare day.
-- Atomic, because the token must be looked at and ended in one step.
begin()
local token, reclaimed = ARGV[2], 0
for at = 3, #ARGV do
    local queue, before = ARGV[at], reclaimed
    for _, number in ipairs(redis.call('ZRANGE', reserved_key(queue), 0, -1)) do
        local job = load(number)
        if job and string.sub(job[TOKEN], 1, #token) == token then
            redis.call('ZREM', reserved_key(queue), number)
            free(job)
            job[ATTEMPTS] = job[ATTEMPTS] - 1
            to_pending(number, job)
            reclaimed = reclaimed + 1
        end
    end
    if reclaimed > before then ring(queue, reclaimed - before) end
end
return reclaimed
