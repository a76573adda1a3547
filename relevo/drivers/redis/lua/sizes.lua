-- How full a queue is. ARGV: time, queue, then kombu's lists. Returns pending, delayed, reserved and, where something is
-- pending, the instant since which its oldest job could have run. What is due is moved first, so that it counts as pending.
begin()
mature(ARGV[2], 1000)
local queue, pending, oldest = ARGV[2], 0, nil
for priority = 0, 9 do
    local key = pending_key(queue, priority)
    pending = pending + redis.call('ZCARD', key)
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[2] and (not oldest or tonumber(first[2]) < oldest) then oldest = tonumber(first[2]) end
end
for at = 3, #ARGV do pending = pending + redis.call('LLEN', ARGV[at]) end
return {pending, redis.call('ZCARD', delayed_key(queue)), redis.call('ZCARD', reserved_key(queue)),
        oldest and string.format('%.17g', oldest) or ''}
