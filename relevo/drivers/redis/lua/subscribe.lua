-- Open or renew a mailbox and add bindings.
-- ARGV: time, mailbox, ttl, then for each binding: exchange, pattern.
-- Atomic, because an old mailbox must not leave its mail to a new one of its name.
local mailbox, ttl = ARGV[2], tonumber(ARGV[3])
local known = redis.call('HGET', boxes_key, mailbox)
if known and cmsgpack.unpack(known)[1] <= now then
    for _, binding in ipairs(redis.call('SMEMBERS', box_key(mailbox))) do
        local bound = cjson.decode(binding)
        redis.call('SREM', bindings_key(bound[1]), cjson.encode({mailbox, bound[2]}))
    end
    redis.call('DEL', box_key(mailbox), mail_key(mailbox))
end
redis.call('HSET', boxes_key, mailbox, cmsgpack.pack({now + ttl, ttl}))
for at = 4, #ARGV, 2 do
    redis.call('SADD', box_key(mailbox), cjson.encode({ARGV[at], ARGV[at + 1]}))
    redis.call('SADD', bindings_key(ARGV[at]), cjson.encode({mailbox, ARGV[at + 1]}))
end
