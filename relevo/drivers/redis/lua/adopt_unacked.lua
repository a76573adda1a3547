-- Take over what a stock Celery worker held when it ended, each message once.
-- ARGV: time, kombu's hash of unacked messages, its index, then for each: its tag, what the hash holds for it, queue, id,
--       payload, priority, available_at or ''.
-- Returns how many. It was started once, perhaps: that attempt counts, and it goes out as redelivered.
-- Atomic, because a message must not be in both places, nor in none.
begin()
local adopted, rung = 0, {}
for at = 4, #ARGV, 7 do
    local tag, held, queue, id, payload, priority, later = unpack(ARGV, at, at + 6)
    if redis.call('HGET', ARGV[2], tag) == held then
        redis.call('HDEL', ARGV[2], tag)
        redis.call('ZREM', ARGV[3], tag)
        if create(queue, id, payload, tonumber(priority), tonumber(later), '', 1) then
            rung[queue] = (rung[queue] or 0) + 1
        end
        adopted = adopted + 1
    end
end
for queue, times in pairs(rung) do ring(queue, times) end
return adopted
