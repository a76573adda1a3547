-- Count an error.
-- ARGV: time, key, errors, per, wait.
-- Returns for how many seconds jobs must wait now (a text).
-- Atomic, because many workers count errors at the same time.
begin()
local key, errors, per, wait = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
touch(key, per + wait)
local state = load_state(key) or {0, 0, 0}
local count, ends, shut = state[1], state[2], state[3]
if now >= math.max(ends, shut > 0 and shut + per or 0) then count, ends, shut = 0, now + per, 0 end
count = count + 1
if count >= errors then shut = math.max(shut, now + wait) end
save_state(key, {count, ends, shut}, per + wait)
return string.format('%.6f', math.max(0, shut - now))
