-- The living jobs with these ids.
-- ARGV: time, then the ids.
-- Returns `describe` (common.lua) of each.
-- Atomic, so that a job's record and its lease are of one moment.
local found = {}
for at = 2, #ARGV do
    for number in string.gmatch(redis.call('HGET', ids_key, ARGV[at]) or '', '[^,]+') do
        local job = load_job(number)
        if job then describe(number, job, found) end
    end
end
return found
