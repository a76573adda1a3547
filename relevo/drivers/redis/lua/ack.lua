-- The jobs are done: forget them. ARGV: time, then for each: number, token. Returns how many were still held.
-- Atomic, because a lease must be looked at and ended in one step.
begin()
local acked = 0
for at = 2, #ARGV, 2 do acked = acked + ack(ARGV[at], ARGV[at + 1]) end
return acked
