-- Close a mailbox.
-- ARGV: time, mailbox.
begin()
local mailbox = ARGV[2]
for _, binding in ipairs(redis.call('SMEMBERS', box_key(mailbox))) do
    local bound = cjson.decode(binding)
    redis.call('SREM', bindings_key(bound[1]), cjson.encode({mailbox, bound[2]}))
end
redis.call('DEL', box_key(mailbox), mail_key(mailbox), ring_key(mailbox))
redis.call('HDEL', boxes_key, mailbox)
