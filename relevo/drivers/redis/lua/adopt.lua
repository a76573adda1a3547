-- Take messages that a plain Celery client pushed over into the queue, each if it is still there.
-- ARGV: time, then for each: kombu's list, the message as it lies there, queue, id, priority, available_at or ''.
-- Returns how many. Atomic, because a message must not be in both places, nor in none.
begin()
local adopted = 0
for at = 2, #ARGV, 6 do
    local list, payload, queue, id, priority, later = unpack(ARGV, at, at + 5)
    if redis.call('LREM', list, -1, payload) == 1 then
        local number = string.format('%016d', redis.call('INCR', sequence_key))
        local available = tonumber(later) or now
        redis.call('HSET', payloads_key, number, payload)
        index(id, number)
        redis.call('SADD', queues_key, queue)
        if available > now then
            save(number, {id, queue, tonumber(priority), 0, 0, available, now, '', '', ''})
            redis.call('ZADD', delayed_key(queue), available, number)
        else
            to_pending(number, {id, queue, tonumber(priority), 0, 0, now, now, '', '', ''})
        end
        adopted = adopted + 1
    end
end
return adopted
