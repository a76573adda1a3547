-- Delete jobs by id, in any state.
-- ARGV: time, then the ids.
-- Returns how many jobs.
-- Atomic, because a job's place in its queue and its record must go together.
begin()
local deleted, touched = 0, {}
for at = 2, #ARGV do
    local numbers = redis.call('HGET', ids_key, ARGV[at]) or ''
    for number in string.gmatch(numbers, '[^,]+') do
        local job = load_job(number)
        if job then
            redis.call('ZREM', pending_key(job[QUEUE], job[PRIORITY]), number)
            redis.call('ZREM', delayed_key(job[QUEUE]), number)
            redis.call('ZREM', reserved_key(job[QUEUE]), number)
            remove(number, job)
            touched[job[QUEUE]] = true
            deleted = deleted + 1
        end
    end
end
for queue in pairs(touched) do forget_if_empty(queue) end
return deleted
