-- The redefined rates.
-- ARGV: time.
-- Returns for each: name, amount, per (a text), kind, burst.
-- A script, because the rates are stored as msgpack.
local answer, all = {}, redis.call('HGETALL', limit_rates_key)
for at = 1, #all, 2 do
    local rate = cmsgpack.unpack(all[at + 1])
    for _, value in ipairs({all[at], rate[AMOUNT], string.format('%.17g', rate[PER]), rate[KIND], rate[BURST]}) do
        answer[#answer + 1] = value
    end
end
return answer
