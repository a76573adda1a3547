-- Give many permits back, or to other jobs, one after the other.
-- ARGV: time, then for each: key, number of permits, token, and of the other job: token ('' for
--       none), id, task.
-- Returns the ids of the jobs that are called, the keys at which jobs wait, the tokens of other
--       jobs without a permit.
-- Atomic, because no job may take a permit on its way, and a called job must find the room that was
-- counted.
begin()
local holders_of, order, called, crowded, without = {}, {}, {}, {}, {}
for at = 2, #ARGV, 6 do
    local key, at_most, token, other = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
    if holders_of[key] == nil then holders_of[key], order[#order + 1] = holder_set(key), key end
    local held = holders_of[key]
    local was_held = held[token]
    if was_held then
        redis.call('HDEL', limit_permits_key(key), token)
        held[token], held.size = nil, held.size - 1
    end
    if other ~= '' and not held[other] then -- or it was passed on, and the answer was lost
        if was_held or (held.size < at_most and not has_waiters(key)) then
            add_permit(key, other, ARGV[at + 4], ARGV[at + 5])
            held[other], held.size = true, held.size + 1
        else
            without[#without + 1] = other
        end
    end
end
for _, key in ipairs(order) do
    if has_waiters(key) then crowded[#crowded + 1] = key end
    for _, id in ipairs(call_next(key)) do called[#called + 1] = id end
end
return {called, crowded, without}
