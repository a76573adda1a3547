-- Put jobs back until a suspension ends or is lifted; without one, to where they stood. The attempt is given back.
-- ARGV: time, what is suspended, the end of one that has none, then for each: number, token. Returns how many were held.
-- Atomic, because nothing may be parked for a suspension that has just been lifted.
begin()
local what, parked = ARGV[2], 0
local ends = redis.call('HGET', suspended_key, what)
local till = ends and tonumber(ends == '' and ARGV[3] or ends)
for at = 4, #ARGV, 2 do
    local number = ARGV[at]
    local job = held(number, ARGV[at + 1])
    if job then
        redis.call('ZREM', reserved_key(job[QUEUE]), number)
        job[ATTEMPTS] = job[ATTEMPTS] - 1
        if till and till > now then
            free(job)
            to_delayed(number, job, till)
            redis.call('ZADD', parked_key(what), till, number)
        else
            back(number, job)
            ring(job[QUEUE], 1)
        end
        parked = parked + 1
    end
end
return parked
