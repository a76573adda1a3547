-- Delete jobs by id, in whatever state. ARGV: time, then the ids. Returns how many jobs.
-- Atomic, because a job must leave its queue and its record at once.
begin()
local deleted = 0
for at = 2, #ARGV do
    local numbers = redis.call('HGET', ids_key, ARGV[at]) or ''
    for number in string.gmatch(numbers, '[^,]+') do
        local job = load(number)
        if job then
            redis.call('ZREM', pending_key(job[QUEUE], job[PRIORITY]), number)
            redis.call('ZREM', delayed_key(job[QUEUE]), number)
            redis.call('ZREM', reserved_key(job[QUEUE]), number)
            forget(number, job)
            deleted = deleted + 1
        end
    end
end
return deleted
