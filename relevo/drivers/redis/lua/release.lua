-- Return jobs to their queues, to run after a delay.
-- ARGV: time, delay, attempts or '' (give the attempt back), 1 for a new payload or 0, the payload,
--       then for each: number, token.
-- Returns how many were still held.
-- Atomic, because a retry must never be half done: the new payload and the new place belong
-- together.
begin()
local delay, attempts, renew, payload, released = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5], 0
for at = 6, #ARGV, 2 do
    local number = ARGV[at]
    local job = held(number, ARGV[at + 1])
    if job then
        redis.call('ZREM', reserved_key(job[QUEUE]), number)
        if renew == '1' then redis.call('HSET', payloads_key, number, payload) end
        job[ATTEMPTS] = attempts or (job[ATTEMPTS] - 1)
        if delay > 0 then
            clear_lease(job)
            to_delayed(number, job, now + delay)
        else
            restore(number, job)
            notify(job[QUEUE], 1)
        end
        released = released + 1
    end
end
return released
