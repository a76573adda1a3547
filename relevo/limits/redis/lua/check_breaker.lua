-- For how long a job waits: it stands in line then. ARGV: time, key, job id. Returns the seconds (a text), and 1 or 0
-- for errors remembered. Atomic, so that who clears the key finds all that wait in its line.
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
