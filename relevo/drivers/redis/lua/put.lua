-- Put jobs, now or for later, all of them or (out of memory) none.
-- ARGV: time, then for each job: queue, id, payload, priority, available_at or '', unique key or ''.
-- Returns for each job: its id (or that of the living job which has its unique key), and 1 or 0 for created or not.
-- Atomic, because a unique key must be taken with the job that it belongs to.
local placed, rung = {}, {}
for at = 2, #ARGV, 6 do
    local queue, id, payload, priority, later, unique = unpack(ARGV, at, at + 5)
    local holder = unique ~= '' and redis.call('HGET', unique_key, unique)
    if holder then
        placed[#placed + 1], placed[#placed + 2] = load(holder)[ID], 0
    else
        local number = string.format('%016d', redis.call('INCR', sequence_key))
        local available = tonumber(later) or now
        redis.call('HSET', payloads_key, number, payload)
        if unique ~= '' then redis.call('HSET', unique_key, unique, number) end
        index(id, number)
        redis.call('SADD', queues_key, queue)
        if available > now then
            save(number, {id, queue, tonumber(priority), 0, 0, available, now, unique, '', ''})
            redis.call('ZADD', delayed_key(queue), available, number)
        else
            to_pending(number, {id, queue, tonumber(priority), 0, 0, now, now, unique, '', ''})
            rung[queue] = (rung[queue] or 0) + 1
        end
        placed[#placed + 1], placed[#placed + 2] = id, 1
    end
end
for queue, times in pairs(rung) do ring(queue, times) end
return placed
