-- Return the jobs of one queue whose lease has ended.
-- ARGV: time, queue, limit.
-- Returns how many.
-- Atomic, because its late worker must not renew the lease of a job that is on its way back.
begin()
local rescued = rescue(ARGV[2], tonumber(ARGV[3]))
if rescued > 0 then notify(ARGV[2], rescued) end
return rescued
