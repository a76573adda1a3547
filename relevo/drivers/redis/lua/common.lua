-- What every script begins with. KEYS[1]: the prefix of all keys; ARGV[1]: the time, or '' for Redis's own.
--
-- The DEL comes first for a full Redis (maxmemory, noeviction): a script is refused for lack of memory only before its
-- first write, and DEL never is, so that jobs can still be acked, taken, renewed and put back. Scripts that put more in
-- (put, deliver, subscribe) leave it out and are refused whole, before they have done anything.
local function begin() redis.call('DEL', root .. 'none') end

local now = tonumber(ARGV[1])
if not now then
    local time = redis.call('TIME')
    now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- A job's record, by position.
local ID, QUEUE, PRIORITY, ATTEMPTS, RESCUES, AVAILABLE, CREATED, UNIQUE, TOKEN, BY = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local FAIR, TURN = 11, 12 -- a record that is older than these has none
local BELL_CAP = 100
-- Whatever is larger is a turn, and no instant.
local TURNS = 1e10

-- The record of a job, or nil where there is none: only a Redis that evicts keys can have lost it, and a number without
-- a record is then passed over, so that it doesn't stop its queue for ever.
local function load(number)
    local record = redis.call('HGET', jobs_key, number)
    return record and cmsgpack.unpack(record) or nil
end

local function save(number, job)
    redis.call('HSET', jobs_key, number, cmsgpack.pack(job))
end

local function ring(queue, times)
    local bell = bell_key(queue)
    local missing = math.min(times, BELL_CAP - redis.call('LLEN', bell))
    for _ = 1, missing do redis.call('RPUSH', bell, '1') end
end

-- The job that `token` holds, or nil: its lease was lost, or the job is gone.
local function held(number, token)
    local job = load(number)
    if job and job[TOKEN] ~= '' and job[TOKEN] == token then return job end
end

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

-- The job is over: nothing of it stays. (Its place in a sorted set is its caller's.)
local function forget(number, job)
    redis.call('HDEL', jobs_key, number)
    redis.call('HDEL', payloads_key, number)
    unindex(job[ID], number)
    if job[UNIQUE] ~= '' then redis.call('HDEL', unique_key, job[UNIQUE]) end
end

local function free(job)
    job[TOKEN], job[BY] = '', ''
end

-- Keys (tenants) take turns in a queue in which jobs have one: the turn of the first that waits, or the end of the key's
-- last, whatever is later. Jobs without a key are one among them. (The database driver's fair.py says more.)
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
    if not first then -- nobody waits: all begin at the end of the last turn
        redis.call('DEL', key)
        first = last
    end
    local turn = math.max(first, tonumber(redis.call('HGET', key, whose) or 0))
    redis.call('HSET', key, whose, string.format('%.17g', turn + 1))
    redis.call('HSET', key, 'last', string.format('%.17g', math.max(last, turn + 1)))
    is_fair[key] = true
    return turn
end

-- Back into its queue, where it stood.
local function to_pending(number, job)
    local score = job[AVAILABLE]
    if takes_turns(job) then
        if (job[TURN] or 0) == 0 then
            job[FAIR] = job[FAIR] or ''
            job[TURN] = next_turn(job)
        end
        score = job[TURN]
    end
    save(number, job)
    redis.call('ZADD', pending_key(job[QUEUE], job[PRIORITY]), string.format('%.17g', score), number)
end

-- Out of its turn, to wait for an instant.
local function to_delayed(number, job, till)
    job[AVAILABLE] = till
    if job[TURN] then job[TURN] = 0 end
    save(number, job)
    redis.call('ZADD', delayed_key(job[QUEUE]), till, number)
end

-- Back as it stood: one that was held by its id may not be due.
local function back(number, job)
    free(job)
    if job[AVAILABLE] > now then
        to_delayed(number, job, job[AVAILABLE])
    else
        to_pending(number, job)
    end
end

local listed = {}

-- A new job, now (`later` is nil) or for later; its worker died in `lost` attempts. Returns whether it is pending.
local function create(queue, id, payload, priority, later, unique, lost, fair)
    local number = string.format('%016d', redis.call('INCR', sequence_key))
    redis.call('HSET', payloads_key, number, payload)
    if unique ~= '' then redis.call('HSET', unique_key, unique, number) end
    index(id, number)
    if not listed[queue] then
        redis.call('SADD', queues_key, queue)
        listed[queue] = true
    end
    local is_delayed = later and later > now
    local available = is_delayed and later or now
    local job = {id, queue, priority, lost, lost, available, now, unique, '', ''}
    if fair and fair ~= '' then job[FAIR], job[TURN] = fair, 0 end
    if is_delayed then
        save(number, job)
        redis.call('ZADD', delayed_key(queue), available, number)
    else
        to_pending(number, job)
    end
    return not is_delayed
end

-- Delayed jobs whose time has come, at most `limit`.
local function mature(queue, limit)
    local due = redis.call('ZRANGEBYSCORE', delayed_key(queue), '-inf', now, 'LIMIT', 0, limit)
    for _, number in ipairs(due) do
        redis.call('ZREM', delayed_key(queue), number)
        local job = load(number)
        if job then to_pending(number, job) end
    end
    return #due
end

-- Jobs whose lease has ended, at most `limit`.
local function rescue(queue, limit)
    local ended = redis.call('ZRANGEBYSCORE', reserved_key(queue), '-inf', now, 'LIMIT', 0, limit)
    for _, number in ipairs(ended) do
        redis.call('ZREM', reserved_key(queue), number)
        local job = load(number)
        if job then
            job[RESCUES] = job[RESCUES] + 1
            back(number, job)
        end
    end
    return #ended
end

-- A parked job is due, unless it has gone its way: then it is not delayed to the instant to which it was parked.
local function unpark(what, number)
    local till = redis.call('ZSCORE', parked_key(what), number)
    redis.call('ZREM', parked_key(what), number)
    local job = load(number)
    if not job or job[AVAILABLE] <= now or string.format('%.14g', job[AVAILABLE]) ~= string.format('%.14g', till) then
        return
    end
    job[AVAILABLE] = now
    if job[TOKEN] ~= '' then -- somebody holds it by its id: it is due when it is let go
        save(number, job)
        return
    end
    redis.call('ZREM', delayed_key(job[QUEUE]), number)
    to_pending(number, job)
    ring(job[QUEUE], 1)
end

local function is_paused(queue)
    local ends = redis.call('HGET', paused_key, queue)
    return ends and (ends == '' or tonumber(ends) > now)
end

local function ack(number, token)
    local job = held(number, token)
    if not job then return 0 end
    redis.call('ZREM', reserved_key(job[QUEUE]), number)
    forget(number, job)
    return 1
end

-- A job as `views.every` reads it: queue, state, id, payload, priority, attempts, rescues, times, worker, its lease's end.
local function describe(number, job, into)
    local held = job[TOKEN] ~= ''
    local state = held and 'reserved' or job[AVAILABLE] > now and 'delayed' or 'pending'
    for _, value in ipairs({job[QUEUE], state, job[ID], redis.call('HGET', payloads_key, number) or '', job[PRIORITY],
                            job[ATTEMPTS], job[RESCUES], string.format('%.17g', job[AVAILABLE]),
                            string.format('%.17g', job[CREATED]), job[BY],
                            held and redis.call('ZSCORE', reserved_key(job[QUEUE]), number) or ''}) do
        into[#into + 1] = value
    end
end
