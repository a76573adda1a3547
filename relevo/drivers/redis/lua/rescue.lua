-- Return the jobs of all queues whose lease has ended.
-- ARGV: time, the most jobs, the most queues.
-- Returns how many jobs, and how many queues were looked at.
-- Atomic, because its late worker must not renew the lease of a job that is on its way back.
begin()
local rescued, queues = sweep(tonumber(ARGV[2]), tonumber(ARGV[3]))
return {rescued, queues}
