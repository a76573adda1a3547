-- Delete jobs by id, but none that somebody holds. ARGV: time, then the ids.
-- Returns what `describe` (common.lua) says of each that is gone. Atomic, or a worker could take one meanwhile.
begin()
local gone = {}
for at = 2, #ARGV do
    for number in string.gmatch(redis.call('HGET', ids_key, ARGV[at]) or '', '[^,]+') do
        local job = load(number)
        if job and job[TOKEN] == '' then
            describe(number, job, gone)
            redis.call('ZREM', pending_key(job[QUEUE], job[PRIORITY]), number)
            redis.call('ZREM', delayed_key(job[QUEUE]), number)
            forget(number, job)
        end
    end
end
return gone
