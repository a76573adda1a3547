-- Delete pending and delayed jobs of a queue, at most `limit`, and what lies in kombu's lists.
-- ARGV: time, queue, limit, kombu's lists. Returns how many.
-- In portions, because a million in one call would stop Redis for everybody.
begin()
local queue, left, cleared = ARGV[2], tonumber(ARGV[3]), 0
local function empty(key)
    if left <= 0 then return end
    local popped = redis.call('ZPOPMIN', key, left)
    for at = 1, #popped, 2 do
        local job = load(popped[at])
        if job then forget(popped[at], job) end
        left, cleared = left - 1, cleared + 1
    end
end
for at = 4, #ARGV do
    cleared = cleared + redis.call('LLEN', ARGV[at])
    redis.call('UNLINK', ARGV[at])
end
for priority = 0, 9 do
    empty(pending_key(queue, priority))
    redis.call('DEL', turns_key(queue, priority)) -- nobody has had a turn any more
end
empty(delayed_key(queue))
redis.call('DEL', bell_key(queue))
return cleared
