-- Bring back the jobs of one queue whose lease has ended. ARGV: time, queue, limit. Returns how many.
-- Atomic, because a job must not be renewed by its late worker while it is on its way back.
begin()
local rescued = rescue(ARGV[2], tonumber(ARGV[3]))
if rescued > 0 then ring(ARGV[2], rescued) end
return rescued
