-- Put jobs, now or for later: all of them, or none when Redis is out of memory.
-- ARGV: time, the putting thread, the number of this put of that thread, then for each job:
--       queue, id, payload, priority, available_at or '', unique key or '', unique_for or '',
--       on_conflict ('' for keep, replace, latest), max_delay or '', fair key or ''.
-- Returns for each job: its id (or that of the living job with its unique key), and 1 (created), 2
--       (replaced) or 0.
-- Atomic, because a unique key must be taken together with its job, and because a put that is
-- repeated after a lost answer must find that it has been done.
local REMEMBERED = 120
local last = redis.call('GET', put_key(ARGV[2]))
if last then
    local request, answer = unpack(cmsgpack.unpack(last))
    if request == ARGV[3] then return answer end
end
local placed, new_jobs = {}, {}

-- Give a living job the payload and the time of the new one.
local function replace(number, job, payload, later, max_delay)
    redis.call('HSET', payloads_key, number, payload)
    if not later then return end
    local till = math.max(now, max_delay and math.min(later, job[CREATED] + max_delay) or later)
    redis.call('ZREM', pending_key(job[QUEUE], job[PRIORITY]), number)
    redis.call('ZREM', delayed_key(job[QUEUE]), number)
    if till > now then
        to_delayed(number, job, till)
    else
        job[AVAILABLE] = till
        if job[TURN] then job[TURN] = 0 end
        to_pending(number, job)
        new_jobs[job[QUEUE]] = (new_jobs[job[QUEUE]] or 0) + 1
    end
end

for at = 4, #ARGV, 10 do
    local queue, id, payload, priority, later = unpack(ARGV, at, at + 4)
    local unique, unique_for, conflict, max_delay, fair = unpack(ARGV, at + 5, at + 9)
    local holder = unique ~= '' and redis.call('HGET', unique_key, unique)
    local living = holder and load_job(holder)
    if living and unique_for ~= '' and living[CREATED] + tonumber(unique_for) <= now then
        living[UNIQUE] = ''
        save_job(holder, living)
        living = nil
    end
    local replaced = living and conflict ~= '' and living[TOKEN] == '' and living[ATTEMPTS] == 0
    if living and conflict == 'latest' and not replaced then
        living[UNIQUE] = ''
        save_job(holder, living)
        living = nil
    end
    if replaced then
        replace(holder, living, payload, tonumber(later), tonumber(max_delay))
        placed[#placed + 1], placed[#placed + 2] = living[ID], 2
    elseif living then
        placed[#placed + 1], placed[#placed + 2] = living[ID], 0
    else
        if create(queue, id, payload, tonumber(priority), tonumber(later), unique, 0, fair) then
            new_jobs[queue] = (new_jobs[queue] or 0) + 1
        end
        placed[#placed + 1], placed[#placed + 2] = id, 1
    end
end
for queue, times in pairs(new_jobs) do notify(queue, times) end
redis.call('SET', put_key(ARGV[2]), cmsgpack.pack({ARGV[3], placed}), 'EX', REMEMBERED)
return placed
