-- The limits in use.
-- ARGV: time, prefix, the most limits, the most waiting jobs that are named.
-- Returns eight values for each: key, number of permits, {job id, task, since, end of the lease
--       ...}, number of waiting jobs, {ids of the first}, kind of state ('', rate, errors),
--       {numbers of the state}, {slices}. Numbers are texts.
-- Atomic, so that all values are of one moment.
local prefix, named = ARGV[2], tonumber(ARGV[4])
local function text(value) return string.format('%.17g', value) end
local keys = {}
for _, key in ipairs(redis.call('ZRANGE', limits_key, 0, -1)) do
    if string.sub(key, 1, #prefix) == prefix then keys[#keys + 1] = key end
end
table.sort(keys)
local answer, count = {}, 0
for _, key in ipairs(keys) do
    if count >= tonumber(ARGV[3]) then break end
    local held = {}
    local permits = redis.call('HGETALL', limit_permits_key(key))
    for at = 1, #permits, 2 do
        local token, number = permits[at], string.match(permits[at], '[^.]*$')
        local job = load_job(number)
        if job and job[TOKEN] == token then
            local permit = cmsgpack.unpack(permits[at + 1])
            local ends = redis.call('ZSCORE', reserved_key(job[QUEUE]), number) or ''
            for _, value in ipairs({permit[1], permit[2], text(permit[3]), ends}) do held[#held + 1] = value end
        end
    end
    local waiting, state = redis.call('ZCARD', limit_since_key(key)), load_state(key)
    if #held > 0 or waiting > 0 or state then
        local kind, numbers, slices = '', {}, {}
        if state and type(state[1]) == 'table' then
            local rate = state[1]
            kind, numbers = 'rate', {text(rate[AMOUNT]), text(rate[PER]), rate[KIND], text(rate[BURST])}
            if rate[KIND] == 'moving' then
                for index, used in pairs(state[2]) do
                    slices[#slices + 1], slices[#slices + 2] = index, text(used)
                end
            else
                numbers[5], numbers[6] = text(state[2]), text(state[3])
            end
        elseif state then
            kind, numbers = 'errors', {text(state[1]), text(state[2]), text(state[3])}
        end
        local first = redis.call('ZRANGE', limit_since_key(key), 0, named - 1)
        local most = redis.call('GET', limit_most_key(key)) or '0'
        for _, value in ipairs({key, most, held, waiting, first, kind, numbers, slices}) do
            answer[#answer + 1] = value
        end
        count = count + 1
    end
end
return answer
