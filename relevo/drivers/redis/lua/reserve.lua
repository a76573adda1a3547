-- Ack the jobs that are done, stage what is due, and take up to `limit` jobs for one lease, in
-- strict order of queues.
-- ARGV: time, limit, lease, worker, token, number of acks, {number, token} of each, number of
--       queues, then for each queue: its name, the number of kombu's lists, and the lists.
-- Returns: the seconds until the next delayed job or lease comes due ('' for never), whether
--       kombu's lists hold a message (0, 1), then for each job: number, id, queue, payload,
--       priority, attempts, rescues.
-- Atomic, because a job leaves its queue in the step that reserves it, whoever dies meanwhile.
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

-- Rescue the jobs of all queues. Not in every call, to spare the empty ones.
local SWEEP_EVERY, SWEEP_JOBS, SWEEP_QUEUES = 0.25, 1000, 500
local last = tonumber(redis.call('GET', swept_key) or '')
if not last or math.abs(now - last) >= SWEEP_EVERY then
    redis.call('SET', swept_key, string.format('%.6f', now))
    sweep(SWEEP_JOBS, SWEEP_QUEUES)
end

local function take(number)
    local job = load_job(number)
    if not job then return end
    job[ATTEMPTS] = job[ATTEMPTS] + 1
    job[TOKEN], job[BY] = token .. number, worker
    save_job(number, job)
    redis.call('ZADD', reserved_key(job[QUEUE]), now + lease, number)
    note_lease(job[QUEUE], now + lease)
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
    -- The queue is empty: its tokens would wake workers for nothing.
    if count < limit then redis.call('DEL', bell_key(queue)) end
    return count - before
end

for _ = 1, tonumber(argument()) do
    local queue = argument()
    if limit > 0 then
        local moved = stage(queue, SWEEP) + rescue(queue, SWEEP)
        if not is_paused(queue) then
            local claimed = claim(queue)
            if moved > claimed then notify(queue, moved - claimed) end -- no put has left tokens for these
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
