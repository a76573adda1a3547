-- The beginning of every script. KEYS[1]: the prefix of all keys; ARGV[1]: the time, or '' for
-- Redis's own.
--
-- `begin` is for a full Redis (maxmemory, noeviction). Redis refuses a script for lack of memory
-- only before its first write, and it never refuses DEL: after a DEL jobs can still be acked,
-- reserved, extended and released. Scripts that add data (put, deliver, subscribe) don't call it,
-- and are refused as a whole before they have done anything.
local function begin() redis.call('DEL', root .. 'none') end

local now = tonumber(ARGV[1])
if not now then
    local time = redis.call('TIME')
    now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- The fields of a job's record.
local ID, QUEUE, PRIORITY, ATTEMPTS, RESCUES = 1, 2, 3, 4, 5
local AVAILABLE, CREATED, UNIQUE, TOKEN, BY = 6, 7, 8, 9, 10
local FAIR, TURN = 11, 12 -- older records lack these two
local BELL_CAP = 100 -- the most tokens in a `bell` list
-- A number from this on is a turn, a smaller one an instant.
local TURNS = 1e10

-- The record of a job, or nil. Only a Redis that evicts keys can lose a record; the number is then
-- skipped, because it would block its queue for ever.
local function load_job(number)
    local record = redis.call('HGET', jobs_key, number)
    return record and cmsgpack.unpack(record) or nil
end

local function save_job(number, job)
    redis.call('HSET', jobs_key, number, cmsgpack.pack(job))
end

-- Leave tokens for `times` idle workers of a queue.
local function notify(queue, times)
    local bell = bell_key(queue)
    local missing = math.min(times, BELL_CAP - redis.call('LLEN', bell))
    for _ = 1, missing do redis.call('RPUSH', bell, '1') end
end

-- The job that is held under `token`, or nil: the lease was lost, or the job is gone.
local function held(number, token)
    local job = load_job(number)
    if job and job[TOKEN] ~= '' and job[TOKEN] == token then return job end
end

-- Enter a number under the id of its job, and remove it.
local function index(id, number)
    if redis.call('HSETNX', ids_key, id, number) == 0 then
        redis.call('HSET', ids_key, id, redis.call('HGET', ids_key, id) .. ',' .. number)
    end
end

local function unindex(id, number)
    local known = redis.call('HGET', ids_key, id)
    if known == number then
        redis.call('HDEL', ids_key, id)
    elseif known then
        local left = {}
        for one in string.gmatch(known, '[^,]+') do
            if one ~= number then left[#left + 1] = one end
        end
        redis.call('HSET', ids_key, id, table.concat(left, ','))
    end
end

-- Delete a job. The caller removes it from its sorted set.
local function remove(number, job)
    redis.call('HDEL', jobs_key, number)
    redis.call('HDEL', payloads_key, number)
    unindex(job[ID], number)
    if job[UNIQUE] ~= '' then redis.call('HDEL', unique_key, job[UNIQUE]) end
end

local function clear_lease(job)
    job[TOKEN], job[BY] = '', ''
end

-- In a fair queue keys (tenants) take turns: a job's turn is that of the first waiting job, or the
-- end of its key's last turn, whichever is later. Jobs without a key count as one key.
-- drivers/database/fair_queue.py explains it.
local is_fair = {}
local function takes_turns(job)
    if job[FAIR] and job[FAIR] ~= '' then return true end
    local key = turns_key(job[QUEUE], job[PRIORITY])
    if is_fair[key] == nil then is_fair[key] = redis.call('EXISTS', key) == 1 end
    return is_fair[key]
end

local function next_turn(job)
    local key, whose = turns_key(job[QUEUE], job[PRIORITY]), 'k' .. (job[FAIR] or '')
    local waiting = redis.call('ZRANGEBYSCORE', pending_key(job[QUEUE], job[PRIORITY]), TURNS, '+inf',
                               'WITHSCORES', 'LIMIT', 0, 1)
    local last = tonumber(redis.call('HGET', key, 'last') or TURNS)
    local first = tonumber(waiting[2])
    if not first then -- no job waits: all keys begin at the end of the last turn
        redis.call('DEL', key)
        first = last
    end
    local turn = math.max(first, tonumber(redis.call('HGET', key, whose) or 0))
    redis.call('HSET', key, whose, string.format('%.17g', turn + 1))
    redis.call('HSET', key, 'last', string.format('%.17g', math.max(last, turn + 1)))
    is_fair[key] = true
    return turn
end

-- Put a job into its queue, at its old place if it had one.
local function to_pending(number, job)
    local score = job[AVAILABLE]
    if takes_turns(job) then
        if (job[TURN] or 0) == 0 then
            job[FAIR] = job[FAIR] or ''
            job[TURN] = next_turn(job)
        end
        score = job[TURN]
    end
    save_job(number, job)
    redis.call('ZADD', pending_key(job[QUEUE], job[PRIORITY]), string.format('%.17g', score), number)
end

-- Let a job wait for an instant. It loses its turn.
local function to_delayed(number, job, till)
    job[AVAILABLE] = till
    if job[TURN] then job[TURN] = 0 end
    save_job(number, job)
    redis.call('ZADD', delayed_key(job[QUEUE]), till, number)
end

-- Return a job to its old place. One that was held by its id may not be due.
local function restore(number, job)
    clear_lease(job)
    if job[AVAILABLE] > now then
        to_delayed(number, job, job[AVAILABLE])
    else
        to_pending(number, job)
    end
end

-- Note the end of a new lease of a queue. The sweep reads `lease_ends`, not every queue there is.
-- An instant there may be too early, since leases are renewed and end before their time, but never
-- too late.
local noted = {}
local function note_lease(queue, ends)
    if noted[queue] and noted[queue] <= ends then return end
    noted[queue] = ends
    redis.call('ZADD', lease_ends_key, 'LT', string.format('%.17g', ends), queue)
end

local function pending_keys(queue)
    local keys = {}
    for priority = 0, 9 do keys[#keys + 1] = pending_key(queue, priority) end
    return keys
end

-- Forget the name of a queue if it is empty. Names may be made of ids, and there may be a million.
local function forget_if_empty(queue)
    if redis.call('EXISTS', delayed_key(queue), reserved_key(queue), unpack(pending_keys(queue))) > 0 then
        return false
    end
    redis.call('SREM', queues_key, queue)
    redis.call('ZREM', lease_ends_key, queue)
    redis.call('DEL', bell_key(queue))
    for priority = 0, 9 do redis.call('DEL', turns_key(queue, priority)) end
    return true
end

-- Note when the next lease of a queue ends, or that it has none.
local function note_next_lease(queue)
    local first = redis.call('ZRANGE', reserved_key(queue), 0, 0, 'WITHSCORES')
    if first[2] then
        redis.call('ZADD', lease_ends_key, first[2], queue)
    else
        redis.call('ZREM', lease_ends_key, queue)
    end
    return first[2]
end

local known_queues = {}

-- Create a job, now (`later` is nil) or for later. `lost`: attempts that ended with the death of
-- their worker.
-- Returns whether it is pending.
local function create(queue, id, payload, priority, later, unique, lost, fair)
    local number = string.format('%016d', redis.call('INCR', sequence_key))
    redis.call('HSET', payloads_key, number, payload)
    if unique ~= '' then redis.call('HSET', unique_key, unique, number) end
    index(id, number)
    if not known_queues[queue] then
        redis.call('SADD', queues_key, queue)
        known_queues[queue] = true
    end
    local is_delayed = later and later > now
    local available = is_delayed and later or now
    local job = {id, queue, priority, lost, lost, available, now, unique, '', ''}
    if fair and fair ~= '' then job[FAIR], job[TURN] = fair, 0 end
    if is_delayed then
        save_job(number, job)
        redis.call('ZADD', delayed_key(queue), available, number)
    else
        to_pending(number, job)
    end
    return not is_delayed
end

-- Move due delayed jobs to pending, at most `limit`. Returns how many.
local function stage(queue, limit)
    local due = redis.call('ZRANGEBYSCORE', delayed_key(queue), '-inf', now, 'LIMIT', 0, limit)
    for _, number in ipairs(due) do
        redis.call('ZREM', delayed_key(queue), number)
        local job = load_job(number)
        if job then to_pending(number, job) end
    end
    return #due
end

-- Return jobs whose lease has ended, at most `limit`. Returns how many.
local function rescue(queue, limit)
    local ended = redis.call('ZRANGEBYSCORE', reserved_key(queue), '-inf', now, 'LIMIT', 0, limit)
    for _, number in ipairs(ended) do
        redis.call('ZREM', reserved_key(queue), number)
        local job = load_job(number)
        if job then
            job[RESCUES] = job[RESCUES] + 1
            restore(number, job)
        end
    end
    return #ended
end

-- Return jobs whose lease has ended, of all queues, also of those without a worker: at most about
-- `limit`, of at most `most` queues. Returns how many jobs and how many queues.
local function sweep(limit, most)
    local total, queues = 0, redis.call('ZRANGEBYSCORE', lease_ends_key, '-inf', now, 'LIMIT', 0, most)
    for _, queue in ipairs(queues) do
        if total >= limit then break end
        local moved = rescue(queue, limit - total)
        if moved > 0 then notify(queue, moved) end
        total = total + moved
        if not note_next_lease(queue) then forget_if_empty(queue) end
    end
    return total, #queues
end

-- Make a parked job due, unless it has moved on: then it is not delayed to the instant to which it
-- was parked.
local function unpark(target, number)
    local till = redis.call('ZSCORE', parked_key(target), number)
    redis.call('ZREM', parked_key(target), number)
    local job = load_job(number)
    if not job or job[AVAILABLE] <= now then return end
    if string.format('%.14g', job[AVAILABLE]) ~= string.format('%.14g', till) then return end
    job[AVAILABLE] = now
    if job[TOKEN] ~= '' then -- it is held by its id: it is due when it is released
        save_job(number, job)
        return
    end
    redis.call('ZREM', delayed_key(job[QUEUE]), number)
    to_pending(number, job)
    notify(job[QUEUE], 1)
end

local function is_paused(queue)
    local ends = redis.call('HGET', paused_key, queue)
    return ends and (ends == '' or tonumber(ends) > now)
end

local function ack(number, token)
    local job = held(number, token)
    if not job then return 0 end
    redis.call('ZREM', reserved_key(job[QUEUE]), number)
    remove(number, job)
    return 1
end

-- Append a job's values for `replies.job_views`: queue, state, id, payload, priority, attempts,
-- rescues, available_at, created_at, worker, end of its lease.
local function describe(number, job, into)
    local held = job[TOKEN] ~= ''
    local state = held and 'reserved' or job[AVAILABLE] > now and 'delayed' or 'pending'
    local payload = redis.call('HGET', payloads_key, number) or ''
    for _, value in ipairs({job[QUEUE], state, job[ID], payload, job[PRIORITY],
                            job[ATTEMPTS], job[RESCUES], string.format('%.17g', job[AVAILABLE]),
                            string.format('%.17g', job[CREATED]), job[BY],
                            held and redis.call('ZSCORE', reserved_key(job[QUEUE]), number) or ''}) do
        into[#into + 1] = value
    end
end
