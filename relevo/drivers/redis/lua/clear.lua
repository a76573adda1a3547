-- Delete the pending and delayed jobs of a queue, and kombu's lists; reads at most `limit` jobs.
-- ARGV: time, queue, limit, the place (0 to 9: a priority, 10: delayed), and the number and the
--       score of the last job that was spared there ('' at the beginning), a number of texts, the
--       texts, kombu's lists.
-- Returns how many were deleted, then the place, number and score for the next call (place 11: all
--       is read).
-- Jobs whose payload contains one of the texts stay.
-- In portions, because a million jobs in one call would block Redis.
begin()
local queue, left, cleared, texts = ARGV[2], tonumber(ARGV[3]), 0, tonumber(ARGV[7])
local place, last, score = tonumber(ARGV[4]), ARGV[5], ARGV[6]
local function spared(number)
    local payload = texts > 0 and redis.call('HGET', payloads_key, number) or ''
    for at = 8, 7 + texts do
        if string.find(payload, ARGV[at], 1, true) then return true end
    end
end
-- Behind the last spared job. If it is gone by now: at the jobs of its score, some of them again.
local function start(key)
    if last == '' then return 0 end
    local rank = redis.call('ZRANK', key, last)
    return rank and rank + 1 or redis.call('ZCOUNT', key, '-inf', '(' .. score)
end
local function empty(key)
    local from = start(key)
    local found = redis.call('ZRANGE', key, from, from + left - 1, 'WITHSCORES')
    for at = 1, #found, 2 do
        local number = found[at]
        left = left - 1
        if spared(number) then
            last, score = number, found[at + 1]
        else
            local job = load_job(number)
            redis.call('ZREM', key, number)
            if job then remove(number, job) end
            cleared = cleared + 1
        end
    end
end
if place == 0 and last == '' then
    for at = 8 + texts, #ARGV do
        cleared = cleared + redis.call('LLEN', ARGV[at])
        redis.call('UNLINK', ARGV[at])
    end
    for priority = 0, 9 do redis.call('DEL', turns_key(queue, priority)) end -- all keys begin anew
end
while place <= 10 do
    empty(place < 10 and pending_key(queue, place) or delayed_key(queue))
    if left <= 0 then break end
    place, last, score = place + 1, '', ''
end
if place > 10 and not forget_if_empty(queue) and redis.call('EXISTS', unpack(pending_keys(queue))) == 0 then
    redis.call('DEL', bell_key(queue))
end
return {cleared, place, last, score}
