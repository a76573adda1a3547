-- Delete jobs that are done.
-- ARGV: time, then for each job: number, token.
-- Returns how many were still held.
-- Atomic, because a lease must be checked and ended in one step.
begin()
local acked = 0
for at = 2, #ARGV, 2 do acked = acked + ack(ARGV[at], ARGV[at + 1]) end
return acked
