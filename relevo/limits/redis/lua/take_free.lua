-- Take permits for many jobs under their leases, where a permit is free and no job waits.
-- ARGV: time, then for each: key, number of permits, token, job id, task.
-- Returns the tokens that have a permit.
-- Atomic, because held permits must be counted in the step that adds some.
begin()
local holders_of, taken = {}, {}
for at = 2, #ARGV, 5 do
    local key, at_most, token = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
    if holders_of[key] == nil then
        touch(key, 0)
        redis.call('SET', limit_most_key(key), at_most)
        holders_of[key] = not has_waiters(key) and holder_set(key)
    end
    local held = holders_of[key]
    if held and not held[token] and held.size < at_most then
        add_permit(key, token, ARGV[at + 3], ARGV[at + 4])
        held[token], held.size = true, held.size + 1
    end
    if held and held[token] then taken[#taken + 1] = token end
end
return taken
