-- For how long the jobs of a key wait. ARGV: time, key. Returns the seconds (a text), and 1 or 0 for errors remembered.
-- Atomic, because it reads one thing by one clock.
local state = stored(ARGV[2])
if not state then return {'0', 0} end
return {string.format('%.6f', math.max(0, state[3] - now)), 1}
