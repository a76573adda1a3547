-- Take messages that a plain Celery client pushed over into the queue, oldest first, for as long as they lie where they
-- were read: whoever came in between has taken them, and looking further would mean to look through the whole list.
-- ARGV: time, kombu's list, queue, then for each: the message as it lies there, id, priority, available_at or ''.
-- Returns how many. Atomic, because a message must not be in both places, nor in none.
begin()
local list, queue, adopted, pending = ARGV[2], ARGV[3], 0, 0
for at = 4, #ARGV, 4 do
    local payload, id, priority, later = unpack(ARGV, at, at + 3)
    if redis.call('LINDEX', list, -1) ~= payload then break end
    redis.call('RPOP', list)
    if create(queue, id, payload, tonumber(priority), tonumber(later), '', 0) then pending = pending + 1 end
    adopted = adopted + 1
end
if pending > 0 then ring(queue, pending) end
return adopted
