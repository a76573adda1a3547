-- Move messages of a plain Celery client from kombu's list into our queue, oldest first.
-- It stops at the first message that is not where it was read: another process has taken it since,
-- and a search would read the whole list.
-- ARGV: time, kombu's list, queue, then for each: the message as it lies there, id, priority,
--       available_at or ''.
-- Returns how many.
-- Atomic, because a message must be in exactly one of the two places.
begin()
local list, queue, adopted, pending = ARGV[2], ARGV[3], 0, 0
for at = 4, #ARGV, 4 do
    local payload, id, priority, later = unpack(ARGV, at, at + 3)
    if redis.call('LINDEX', list, -1) ~= payload then break end
    redis.call('RPOP', list)
    if create(queue, id, payload, tonumber(priority), tonumber(later), '', 0) then pending = pending + 1 end
    adopted = adopted + 1
end
if pending > 0 then notify(queue, pending) end
return adopted
