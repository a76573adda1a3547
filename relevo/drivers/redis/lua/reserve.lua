-- Ack what is done, move what is due, and take up to `limit` jobs for one lease, in strict order of the queues.
-- ARGV: time, limit, lease, worker, token, number of acks, {number, token} of each, number of queues, their names,
--       then for each queue the number of kombu's lists and their keys.
-- Returns: in how many seconds the next delayed job or lease comes due ('' for never), whether kombu's lists hold something (0, 1),
--       then for each job taken: number, id, queue, payload, priority, attempts, rescues.
-- Atomic, because a job must be in one place whoever dies: it leaves its queue in the step that reserves it.
begin()
local SWEEP = 200
local at = 2
local function argument()
    at = at + 1
    return ARGV[at - 1]
end
local limit, lease, worker, token = tonumber(argument()), tonumber(argument()), argument(), argument()
for _ = 1, tonumber(argument()) do
    local number = argument()
    ack(number, argument())
end

-- A queue that nobody asks for keeps no job under a dead worker's lease either. Not at every call: it looks at each queue.
local SWEEP_EVERY = 0.25
local last = tonumber(redis.call('GET', swept_key) or '')
if not last or math.abs(now - last) >= SWEEP_EVERY then
    redis.call('SET', swept_key, string.format('%.6f', now))
    for _, queue in ipairs(redis.call('SMEMBERS', queues_key)) do
        local moved = rescue(queue, SWEEP)
        if moved > 0 then ring(queue, moved) end
    end
end

local function take(number)
    local job = load(number)
    if not job then return end
    job[ATTEMPTS] = job[ATTEMPTS] + 1
    job[TOKEN], job[BY] = token .. number, worker
    save(number, job)
    redis.call('ZADD', reserved_key(job[QUEUE]), now + lease, number)
    return job
end

local taken, count, due, foreign = {}, 0, nil, 0
local function comes_due(key)
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[2] and (not due or tonumber(first[2]) < due) then due = tonumber(first[2]) end
end

local function claim(queue)
    local before = count
    for priority = 0, 9 do
        if count >= limit then return count - before end
        local key = pending_key(queue, priority)
        local popped = redis.call('ZPOPMIN', key, limit - count)
        for each = 1, #popped, 2 do
            local number = popped[each]
            local job = take(number)
            if job then
                for _, value in ipairs({number, job[ID], queue, redis.call('HGET', payloads_key, number) or '',
                                        job[PRIORITY], job[ATTEMPTS], job[RESCUES]}) do
                    taken[#taken + 1] = value
                end
                count = count + 1
            end
        end
    end
    -- Nothing is left: tokens that still lie there would wake workers for nothing.
    if count < limit then redis.call('DEL', bell_key(queue)) end
    return count - before
end

for _ = 1, tonumber(argument()) do
    local queue = argument()
    if limit > 0 then
        local moved = mature(queue, SWEEP) + rescue(queue, SWEEP)
        if not is_paused(queue) then
            local claimed = claim(queue)
            if moved > claimed then ring(queue, moved - claimed) end -- for others, as nobody put these just now
        end
        comes_due(delayed_key(queue))
        comes_due(reserved_key(queue))
    end
    local lists = tonumber(argument())
    if redis.call('EXISTS', unpack(ARGV, at, at + lists - 1)) > 0 then foreign = 1 end
    at = at + lists
end
local answer = {due and string.format('%.6f', math.max(0, due - now)) or '', foreign}
for _, value in ipairs(taken) do answer[#answer + 1] = value end
return answer
