-- The first jobs of a queue in one state.
-- ARGV: time, queue, state, limit.
-- Returns for each: id, payload, priority, attempts, rescues, available_at, created_at, worker, end
--       of the lease or ''.
-- Due jobs are staged first, so that each is shown in the place from which it will run.
begin()
stage(ARGV[2], 1000)
local queue, state, limit, answer, count = ARGV[2], ARGV[3], tonumber(ARGV[4]), {}, 0
local from = state == 'delayed' and '(' .. string.format('%.17g', now) or '-inf'
local function show(key)
    if count >= limit then return end
    local found = redis.call('ZRANGEBYSCORE', key, from, '+inf', 'WITHSCORES', 'LIMIT', 0, limit - count)
    for at = 1, #found, 2 do
        local job = load_job(found[at]) or {'', queue, 0, 0, 0, 0, 0, '', '', ''}
        local payload = redis.call('HGET', payloads_key, found[at]) or ''
        for _, value in ipairs({job[ID], payload, job[PRIORITY], job[ATTEMPTS], job[RESCUES],
                                string.format('%.17g', job[AVAILABLE]),
                                string.format('%.17g', job[CREATED]),
                                job[BY], state == 'reserved' and found[at + 1] or ''}) do
            answer[#answer + 1] = value
        end
        count = count + 1
    end
end
if state == 'pending' then
    for priority = 0, 9 do show(pending_key(queue, priority)) end
else
    show(state == 'delayed' and delayed_key(queue) or reserved_key(queue))
end
return answer
