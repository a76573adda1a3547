-- Release jobs until a suspension ends; without one, to their old places. The attempts are given
-- back.
-- ARGV: time, target, the end of a suspension without an end, then for each: number, token.
-- Returns how many were held.
-- Atomic, because no job may be parked for a suspension that has just been lifted.
begin()
local target, parked = ARGV[2], 0
local ends = redis.call('HGET', suspended_key, target)
local till = ends and tonumber(ends == '' and ARGV[3] or ends)
for at = 4, #ARGV, 2 do
    local number = ARGV[at]
    local job = held(number, ARGV[at + 1])
    if job then
        redis.call('ZREM', reserved_key(job[QUEUE]), number)
        job[ATTEMPTS] = job[ATTEMPTS] - 1
        if till and till > now then
            clear_lease(job)
            to_delayed(number, job, till)
            redis.call('ZADD', parked_key(target), till, number)
        else
            restore(number, job)
            notify(job[QUEUE], 1)
        end
        parked = parked + 1
    end
end
return parked
