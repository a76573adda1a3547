-- Take one of the permits of a key for a job under its lease, or wait in line.
-- ARGV: time, key, number of permits, token, job id, task.
-- Returns 0, or for how many seconds to stay away (a text).
-- Atomic, because held permits must be counted in the step that adds one, and no lease may end in
-- between.
begin()
local key, at_most, token, id = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
touch(key, 0)
redis.call('SET', limit_most_key(key), at_most)
local held = holders(key)
for _, each in ipairs(held) do
    if each == token then return '0' end
end
local since, room = since_of(key, id), at_most - #held
if room > 0 and room > count_ahead(key, id, since, GRACE) then
    add_permit(key, token, id, ARGV[6])
    if since then remove_waiter(key, id) end
    return '0'
end
remove_late_waiters(key)
since = since or now
local place = redis.call('ZCOUNT', limit_since_key(key), '-inf', string.format('(%.17g', since))
local longest = LONGEST * math.max(1, place / HEAD)
local wait = math.min(math.max(FIRST, now - since, FIRST * place / at_most), longest, MOST)
add_waiter(key, id, since, now + wait)
return string.format('%.6f', wait)
