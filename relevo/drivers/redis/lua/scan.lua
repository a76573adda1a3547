-- A page of all living jobs.
-- ARGV: time, the cursor ('0' at the beginning), about how many.
-- Returns the next cursor ('0' at the end), then `describe` (common.lua) of each job.
-- Atomic, so that a job's record and its lease are of one moment.
local answer = redis.call('HSCAN', jobs_key, ARGV[2], 'COUNT', ARGV[3])
local found = {answer[1]}
for at = 1, #answer[2], 2 do describe(answer[2][at], cmsgpack.unpack(answer[2][at + 1]), found) end
return found
