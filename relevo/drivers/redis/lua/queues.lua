-- The names of the queues that hold a job; names of empty queues are removed.
-- ARGV: time.
-- Returns the names.
begin()
local full = {}
for _, queue in ipairs(redis.call('SMEMBERS', queues_key)) do
    local jobs = redis.call('EXISTS', delayed_key(queue), reserved_key(queue))
    for priority = 0, 9 do jobs = jobs + redis.call('EXISTS', pending_key(queue, priority)) end
    if jobs > 0 then full[#full + 1] = queue else redis.call('SREM', queues_key, queue) end
end
return full
