-- Delete pending and delayed jobs of a queue, at most `limit`. ARGV: time, queue, limit. Returns how many.
-- In portions, because a million in one call would stop Redis for everybody.
begin()
local queue, left, cleared = ARGV[2], tonumber(ARGV[3]), 0
local function empty(key)
    if left <= 0 then return end
    local popped = redis.call('ZPOPMIN', key, left)
    for at = 1, #popped, 2 do
        forget(popped[at], load(popped[at]))
        left, cleared = left - 1, cleared + 1
    end
end
for priority = 0, 9 do empty(pending_key(queue, priority)) end
empty(delayed_key(queue))
redis.call('DEL', bell_key(queue))
return cleared
