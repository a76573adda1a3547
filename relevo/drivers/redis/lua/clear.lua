-- Delete the pending and delayed jobs of a queue, and kombu's lists; reads at most `limit` jobs.
-- ARGV: time, queue, limit, a number of texts, the texts, kombu's lists.
-- Returns how many were deleted.
-- Jobs whose payload contains one of the texts stay.
-- In portions, because a million jobs in one call would block Redis.
begin()
local queue, left, cleared, texts, kept = ARGV[2], tonumber(ARGV[3]), 0, tonumber(ARGV[4]), false
local function spared(number)
    local payload = texts > 0 and redis.call('HGET', payloads_key, number) or ''
    for at = 5, 4 + texts do
        if string.find(payload, ARGV[at], 1, true) then return true end
    end
end
local function empty(key)
    if left <= 0 then return end
    for _, number in ipairs(redis.call('ZRANGE', key, 0, left - 1)) do
        left = left - 1
        if spared(number) then
            kept = true
        else
            local job = load_job(number)
            redis.call('ZREM', key, number)
            if job then remove(number, job) end
            cleared = cleared + 1
        end
    end
end
for at = 5 + texts, #ARGV do
    cleared = cleared + redis.call('LLEN', ARGV[at])
    redis.call('UNLINK', ARGV[at])
end
for priority = 0, 9 do
    empty(pending_key(queue, priority))
    redis.call('DEL', turns_key(queue, priority)) -- all keys begin anew
end
empty(delayed_key(queue))
if not kept then redis.call('DEL', bell_key(queue)) end
return cleared
