-- Give units of a rate back that were taken just now.
-- ARGV: time, key, cost.
-- Returns the ids of the jobs that are called.
-- Atomic, because a called job must find the units that were counted.
begin()
local key, cost = ARGV[2], tonumber(ARGV[3])
local state = load_state(key)
if not state then return {} end
local rate = state[1]
cost, state = math.min(cost, most_of(rate)), current(state, rate)
local missing = cost
if rate[KIND] == 'fixed' then
    state[3] = math.max(0, state[3] - cost)
elseif rate[KIND] == 'bucket' then
    state[2] = math.min(rate[BURST], state[2] + cost)
else
    local indexes = {}
    for index in pairs(state[2]) do indexes[#indexes + 1] = tonumber(index) end
    table.sort(indexes, function(one, other) return one > other end)
    for _, number in ipairs(indexes) do
        local index = string.format('%.0f', number)
        local back = math.min(state[2][index], missing)
        missing = missing - back
        state[2][index] = state[2][index] > back and state[2][index] - back or nil
    end
end
save_rate(key, state)
return call_up_to(key, math.floor(free_units(state) / cost) - count_ahead(key, '', nil, grace_of(rate)))
