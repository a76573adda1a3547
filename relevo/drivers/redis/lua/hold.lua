-- Reserve jobs by id, unless they are reserved.
-- ARGV: time, lease, worker, token, then the ids.
-- Returns the numbers of the jobs, and `describe` (common.lua) of each as it was.
-- Atomic, because a worker must not take a job in between.
begin()
local numbers, were = {}, {}
for at = 5, #ARGV do
    for number in string.gmatch(redis.call('HGET', ids_key, ARGV[at]) or '', '[^,]+') do
        local job = load_job(number)
        if job and job[TOKEN] == '' then
            numbers[#numbers + 1] = number
            describe(number, job, were)
            redis.call('ZREM', pending_key(job[QUEUE], job[PRIORITY]), number)
            redis.call('ZREM', delayed_key(job[QUEUE]), number)
            job[TOKEN], job[BY] = ARGV[4] .. number, ARGV[3]
            save_job(number, job)
            redis.call('ZADD', reserved_key(job[QUEUE]), now + tonumber(ARGV[2]), number)
            note_lease(job[QUEUE], now + tonumber(ARGV[2]))
        end
    end
end
return {numbers, were}
