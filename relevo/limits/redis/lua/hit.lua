-- Take units of a rate, or wait in line.
-- ARGV: time, key, name, amount, per, kind, burst, cost, job id.
-- Returns 0, or for how many seconds to stay away (a text).
-- Atomic, because units must be counted in the step that takes them, and the line must stay as it
-- was counted.
begin()
local key, id, cost = ARGV[2], ARGV[9], tonumber(ARGV[8])
local redefined = redis.call('HGET', limit_rates_key, ARGV[3])
local rate = redefined and cmsgpack.unpack(redefined)
    or {tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])}
local most = most_of(rate)
cost = math.min(cost, most)
touch(key, rate[PER])
local state, since = current(load_state(key), rate), since_of(key, id)
local before = count_ahead(key, id, since, grace_of(rate))
if free_units(state) >= cost * (1 + before) then
    save_rate(key, spend(state, cost))
    if since then remove_waiter(key, id) end
    return '0'
end
remove_late_waiters(key)
local opens_in = opens_at(state, math.min(cost * (1 + before), most)) - now
if opens_in == 0 then opens_in = rate[PER] / rate[AMOUNT] end
local units = since and 0 or count_later(key) * cost
local turns = units / rate[AMOUNT]
if rate[KIND] == 'fixed' then turns = math.floor(turns) end
local wait = math.min(opens_in + turns * rate[PER], math.max(MOST, opens_in)) + MARGIN
add_waiter(key, id, since or now, now + wait)
return string.format('%.6f', wait)
