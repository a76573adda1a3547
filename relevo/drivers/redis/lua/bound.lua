-- The open mailboxes that are bound to an exchange; closes those whose time is up.
-- ARGV: time, exchange.
-- Returns for each binding JSON of [mailbox, pattern].
begin()
local open = {}
for _, binding in ipairs(redis.call('SMEMBERS', bindings_key(ARGV[2]))) do
    local mailbox = cjson.decode(binding)[1]
    local known = redis.call('HGET', boxes_key, mailbox)
    if known and cmsgpack.unpack(known)[1] > now then
        open[#open + 1] = binding
    else
        redis.call('SREM', bindings_key(ARGV[2]), binding)
        redis.call('DEL', mail_key(mailbox), ring_key(mailbox), box_key(mailbox))
        redis.call('HDEL', boxes_key, mailbox)
    end
end
return open
