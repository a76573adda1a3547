-- Take jobs by id, but none that somebody holds. ARGV: time, lease, who, token, then the ids.
-- Returns the number of each, and what `describe` (common.lua) says of it as it was.
-- Atomic, or a worker could take one meanwhile.
begin()
local numbers, were = {}, {}
for at = 5, #ARGV do
    for number in string.gmatch(redis.call('HGET', ids_key, ARGV[at]) or '', '[^,]+') do
        local job = load(number)
        if job and job[TOKEN] == '' then
            numbers[#numbers + 1] = number
            describe(number, job, were)
            redis.call('ZREM', pending_key(job[QUEUE], job[PRIORITY]), number)
            redis.call('ZREM', delayed_key(job[QUEUE]), number)
            job[TOKEN], job[BY] = ARGV[4] .. number, ARGV[3]
            save(number, job)
            redis.call('ZADD', reserved_key(job[QUEUE]), now + tonumber(ARGV[2]), number)
        end
    end
end
return {numbers, were}
