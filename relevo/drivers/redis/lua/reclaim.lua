-- Release the jobs of a reservation whose answer was lost. No worker has seen them, so no attempt
-- is counted.
-- ARGV: time, the beginning of the token, queues.
-- Returns how many.
-- It reads all reserved jobs of the queues, but is seldom needed.
-- Atomic, because the token must be checked and ended in one step.
begin()
local token, reclaimed = ARGV[2], 0
for at = 3, #ARGV do
    local queue, before = ARGV[at], reclaimed
    for _, number in ipairs(redis.call('ZRANGE', reserved_key(queue), 0, -1)) do
        local job = load_job(number)
        if job and string.sub(job[TOKEN], 1, #token) == token then
            redis.call('ZREM', reserved_key(queue), number)
            clear_lease(job)
            job[ATTEMPTS] = job[ATTEMPTS] - 1
            to_pending(number, job)
            reclaimed = reclaimed + 1
        end
    end
    if reclaimed > before then notify(queue, reclaimed - before) end
end
return reclaimed
