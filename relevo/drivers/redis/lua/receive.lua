-- Take the new messages of a mailbox, and renew it.
-- ARGV: time, mailbox.
-- Returns the messages, or -1 when there is no such mailbox.
-- Atomic, because each message must be taken once.
begin()
local mailbox = ARGV[2]
local known = redis.call('HGET', boxes_key, mailbox)
if not known then return -1 end
local box = cmsgpack.unpack(known)
if box[1] <= now then return -1 end
redis.call('HSET', boxes_key, mailbox, cmsgpack.pack({now + box[2], box[2]}))
local mail = redis.call('LRANGE', mail_key(mailbox), 0, -1)
redis.call('DEL', mail_key(mailbox), ring_key(mailbox))
return mail
