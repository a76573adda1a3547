-- The beginning of every script of the limits, behind the driver's common.lua: begin, now,
-- load_job, restore, notify, TOKEN. The rules are explained in limits/algorithms.py, waiters.py,
-- rates.py and breakers.py.
local GRACE, FIRST, LONGEST, HEAD, MOST, MARGIN, FORGET = 1.0, 1.5, 30.0, 100, 600.0, 0.002, 60.0
local SLICES, CLOSE, UNUSED = 100, 1e-9, 3600
local AMOUNT, PER, KIND, BURST = 1, 2, 3, 4

-- Note that a key is in use, and delete up to two keys that have been unused for long.
local function touch(key, keep)
    local score = redis.call('ZSCORE', limits_key, key)
    if not score or tonumber(score) < now + UNUSED / 2 + keep then
        redis.call('ZADD', limits_key, now + UNUSED + keep, key)
    end
    for _, old in ipairs(redis.call('ZRANGEBYSCORE', limits_key, '-inf', now, 'LIMIT', 0, 2)) do
        local held = false
        for _, token in ipairs(redis.call('HKEYS', limit_permits_key(old))) do
            local job = load_job(string.match(token, '[^.]*$'))
            held = held or (job and job[TOKEN] == token)
        end
        redis.call('ZREMRANGEBYSCORE', limit_due_key(old), '-inf', now - FORGET)
        if held or redis.call('EXISTS', limit_due_key(old)) == 1 then
            redis.call('ZADD', limits_key, now + UNUSED, old)
        else
            redis.call('ZREM', limits_key, old)
            redis.call('DEL', limit_state_key(old), limit_permits_key(old), limit_most_key(old),
                       limit_since_key(old))
        end
    end
end

-- --- permits -------------------------------------------------------------------------------------
-- The tokens of the held permits. A job whose lease has ended is rescued here: otherwise its late
-- holder could extend the lease, and there would be one permit too many.
local function holders(key)
    local held = {}
    for _, token in ipairs(redis.call('HKEYS', limit_permits_key(key))) do
        local number = string.match(token, '[^.]*$')
        local job = load_job(number)
        if job and job[TOKEN] == token then
            local ends = redis.call('ZSCORE', reserved_key(job[QUEUE]), number)
            if ends and tonumber(ends) <= now then
                redis.call('ZREM', reserved_key(job[QUEUE]), number)
                job[RESCUES] = job[RESCUES] + 1
                restore(number, job)
                notify(job[QUEUE], 1)
                job = nil
            end
        else
            job = nil
        end
        if job then held[#held + 1] = token else redis.call('HDEL', limit_permits_key(key), token) end
    end
    return held
end

-- --- waiting jobs --------------------------------------------------------------------------------
local function since_of(key, id) return tonumber(redis.call('ZSCORE', limit_since_key(key), id) or '') end

-- How many of the expected jobs come before this job.
local function count_ahead(key, id, since, grace)
    local before = 0
    local after = string.format('(%.17g', now - grace)
    for _, other in ipairs(redis.call('ZRANGEBYSCORE', limit_due_key(key), after, now)) do
        local its = since_of(key, other)
        if its and (not since or its < since or (its == since and other < id)) then before = before + 1 end
    end
    return before
end

local function count_later(key)
    return redis.call('ZCOUNT', limit_due_key(key), string.format('(%.17g', now), '+inf')
end

local function add_waiter(key, id, since, due)
    redis.call('ZADD', limit_since_key(key), string.format('%.17g', since), id)
    redis.call('ZADD', limit_due_key(key), string.format('%.17g', due), id)
end

local function remove_waiter(key, id)
    redis.call('ZREM', limit_due_key(key), id)
    redis.call('ZREM', limit_since_key(key), id)
end

local function remove_late_waiters(key)
    local late = redis.call('ZRANGEBYSCORE', limit_due_key(key), '-inf', string.format('(%.17g', now - FORGET))
    for _, id in ipairs(late) do remove_waiter(key, id) end
end

local function add_permit(key, token, id, task)
    redis.call('HSET', limit_permits_key(key), token, cmsgpack.pack({id, task, now}))
end

local function has_waiters(key) return redis.call('EXISTS', limit_since_key(key)) == 1 end

-- Make the first `room` waiting jobs due that are not due yet. Returns their ids.
local function call_up_to(key, room)
    local called, at = {}, 0
    while #called < room do
        local next = redis.call('ZRANGE', limit_since_key(key), at, at + 99)
        if #next == 0 then break end
        for _, id in ipairs(next) do
            local due = tonumber(redis.call('ZSCORE', limit_due_key(key), id) or '')
            if #called < room and due and due > now then called[#called + 1] = id end
        end
        at = at + 100
    end
    for _, id in ipairs(called) do redis.call('ZADD', limit_due_key(key), string.format('%.17g', now), id) end
    -- With room left: call jobs again that were called and haven't come.
    if #called < room then
        local before = string.format('(%.17g', now - GRACE)
        local missed = redis.call('ZRANGEBYSCORE', limit_due_key(key), '-inf', before, 'LIMIT', 0, room - #called)
        for _, id in ipairs(missed) do
            called[#called + 1] = id
        end
    end
    return called
end

-- Call as many waiting jobs as there are free permits.
local function call_next(key)
    if not has_waiters(key) then return {} end
    local most = tonumber(redis.call('GET', limit_most_key(key)) or '0')
    return call_up_to(key, most - #holders(key) - count_ahead(key, '', nil, GRACE))
end

-- The tokens of the held permits, as a set with its size.
local function holder_set(key)
    local held = holders(key)
    local set = {size = #held}
    for _, token in ipairs(held) do set[token] = true end
    return set
end

-- --- rates: a state is {fields, first, second} ---------------------------------------------------
local function most_of(rate) return rate[KIND] == 'bucket' and rate[BURST] or rate[AMOUNT] end

local function grace_of(rate) return math.min(GRACE, rate[PER] / 2) end

local function new_state(rate)
    if rate[KIND] == 'fixed' then return {rate, now, 0} end
    if rate[KIND] == 'moving' then return {rate, {}, 0} end
    return {rate, rate[BURST], now}
end

local function leaves_window_at(index, rate) return (tonumber(index) + 1) * (rate[PER] / SLICES) + rate[PER] end

local function current(state, rate)
    if not state or state[1][PER] ~= rate[PER] or state[1][KIND] ~= rate[KIND] then return new_state(rate) end
    if rate[KIND] == 'fixed' then
        if now < state[2] + rate[PER] then return {rate, state[2], state[3]} end
        return new_state(rate)
    end
    if rate[KIND] == 'moving' then
        local left = {}
        for index, used in pairs(state[2]) do
            if leaves_window_at(index, rate) > now then left[index] = used end
        end
        return {rate, left, 0}
    end
    local saved = state[2] + math.max(0, now - state[3]) * rate[AMOUNT] / rate[PER]
    return {rate, math.min(rate[BURST], saved), math.max(now, state[3])}
end

local function free_units(state)
    local rate = state[1]
    if rate[KIND] == 'fixed' then return rate[AMOUNT] - state[3] end
    if rate[KIND] == 'bucket' then return state[2] + CLOSE end
    local used = 0
    for _, units in pairs(state[2]) do used = used + units end
    return rate[AMOUNT] - used
end

local function opens_at(state, cost)
    local rate, missing = state[1], cost - free_units(state)
    if missing <= 0 then return now end
    if rate[KIND] == 'fixed' then return state[2] + rate[PER] end
    if rate[KIND] == 'bucket' then return now + missing * rate[PER] / rate[AMOUNT] end
    local indexes = {}
    for index in pairs(state[2]) do indexes[#indexes + 1] = tonumber(index) end
    table.sort(indexes)
    for _, index in ipairs(indexes) do
        missing = missing - state[2][string.format('%.0f', index)]
        if missing <= 0 then return leaves_window_at(index, rate) end
    end
    return now + rate[PER]
end

local function spend(state, cost)
    local rate = state[1]
    if rate[KIND] == 'fixed' then return {rate, state[2], state[3] + cost} end
    if rate[KIND] == 'bucket' then return {rate, state[2] - cost, state[3]} end
    local index = string.format('%.0f', math.floor(now / (rate[PER] / SLICES)))
    state[2][index] = (state[2][index] or 0) + cost
    return state
end

local function load_state(key)
    local text = redis.call('GET', limit_state_key(key))
    return text and cmsgpack.unpack(text) or nil
end

local function save_state(key, state, seconds)
    redis.call('SET', limit_state_key(key), cmsgpack.pack(state), 'PX', math.ceil(seconds * 1000) + 1000)
end

-- Store the state of a rate for as long as it matters: until the bucket is full again, or the
-- window is over.
local function save_rate(key, state)
    local rate = state[1]
    local full = rate[PER] * rate[BURST] / rate[AMOUNT]
    save_state(key, state, rate[KIND] == 'bucket' and full or rate[PER] * (1 + 1 / SLICES))
end
