-- Put jobs back, to run after a delay. ARGV: time, delay, attempts or '' (give the attempt back), 1 or 0 for a new payload
-- or the old one, the payload, then for each: number, token. Returns how many were still held.
-- Atomic, because the job's new payload and its place in the queue are one thing: a retry is never half done.
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
            free(job)
            to_delayed(number, job, now + delay)
        else
            back(number, job)
            ring(job[QUEUE], 1)
        end
        released = released + 1
    end
end
return released
