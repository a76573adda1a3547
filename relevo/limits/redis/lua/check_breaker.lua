-- For how long a job must wait for a breaker; it waits in line then.
-- ARGV: time, key, job id.
-- Returns the seconds (a text), and 1 or 0 for whether errors are counted.
-- Atomic, so that a clear of the key finds every job that waits.
begin()
local key, id = ARGV[2], ARGV[3]
local state, since = load_state(key), since_of(key, id)
local wait = state and math.max(0, state[3] - now) or 0
if wait > 0 then
    remove_late_waiters(key)
    add_waiter(key, id, since or now, now + wait)
elseif since then
    remove_waiter(key, id)
end
return {string.format('%.6f', wait), state and 1 or 0}
