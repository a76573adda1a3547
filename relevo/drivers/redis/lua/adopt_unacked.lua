-- Take over the messages that a stock Celery worker held when it was killed, each once.
-- ARGV: time, kombu's hash of unacked messages, its index, then for each: its tag, its entry in the
--       hash, queue, id, payload, priority, available_at or ''.
-- Returns how many. The worker may have started the job: that attempt counts, and the job is marked
--       as redelivered.
-- Atomic, because a message must be in exactly one of the two places.
begin()
local adopted, new_jobs = 0, {}
for at = 4, #ARGV, 7 do
    local tag, held, queue, id, payload, priority, later = unpack(ARGV, at, at + 6)
    if redis.call('HGET', ARGV[2], tag) == held then
        redis.call('HDEL', ARGV[2], tag)
        redis.call('ZREM', ARGV[3], tag)
        if create(queue, id, payload, tonumber(priority), tonumber(later), '', 1) then
            new_jobs[queue] = (new_jobs[queue] or 0) + 1
        end
        adopted = adopted + 1
    end
end
for queue, times in pairs(new_jobs) do notify(queue, times) end
return adopted
