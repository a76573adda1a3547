-- How full a queue is.
-- ARGV: time, queue, then kombu's lists.
-- Returns pending, delayed, reserved, and the instant since which the oldest pending job could have
--       run, or ''. A delayed job that is due counts as pending, also before it is staged.
local queue = ARGV[2]
local pending, oldest = redis.call('ZCOUNT', delayed_key(queue), '-inf', now), nil
local delayed = redis.call('ZCARD', delayed_key(queue)) - pending
local function look(key)
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[2] and tonumber(first[2]) < TURNS and (not oldest or tonumber(first[2]) < oldest) then
        oldest = tonumber(first[2])
    end
end
-- In a fair queue only the first thousand jobs are read: the first job of each key is among them.
local function look_at_turns(key)
    for _, number in ipairs(redis.call('ZRANGEBYSCORE', key, TURNS, '+inf', 'LIMIT', 0, 1000)) do
        local job = load_job(number)
        if job and (not oldest or job[AVAILABLE] < oldest) then oldest = job[AVAILABLE] end
    end
end
for priority = 0, 9 do
    pending = pending + redis.call('ZCARD', pending_key(queue, priority))
    look(pending_key(queue, priority))
    if redis.call('EXISTS', turns_key(queue, priority)) == 1 then
        look_at_turns(pending_key(queue, priority))
    end
end
if pending > 0 then look(delayed_key(queue)) end
for at = 3, #ARGV do pending = pending + redis.call('LLEN', ARGV[at]) end
return {pending, delayed, redis.call('ZCARD', reserved_key(queue)),
        oldest and string.format('%.17g', oldest) or ''}
