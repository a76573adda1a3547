-- Make delayed jobs due now, by id.
-- ARGV: time, then the ids.
-- Returns how many jobs.
-- Atomic, because a job's place and its record must agree.
begin()
local hastened, new_jobs = 0, {}
for at = 2, #ARGV do
    local numbers = redis.call('HGET', ids_key, ARGV[at]) or ''
    for number in string.gmatch(numbers, '[^,]+') do
        local job = load_job(number)
        if job and job[AVAILABLE] > now and redis.call('ZREM', delayed_key(job[QUEUE]), number) == 1 then
            job[AVAILABLE] = now
            to_pending(number, job)
            new_jobs[job[QUEUE]] = (new_jobs[job[QUEUE]] or 0) + 1
            hastened = hastened + 1
        end
    end
end
for queue, times in pairs(new_jobs) do notify(queue, times) end
return hastened
