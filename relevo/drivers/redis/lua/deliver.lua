-- Put messages into open mailboxes.
-- ARGV: time, the seconds for which unread mail is kept, then for each: mailbox, message.
for at = 3, #ARGV, 2 do
    local mailbox = ARGV[at]
    if redis.call('HEXISTS', boxes_key, mailbox) == 1 then
        redis.call('RPUSH', mail_key(mailbox), ARGV[at + 1])
        redis.call('EXPIRE', mail_key(mailbox), ARGV[2])
        if redis.call('EXISTS', ring_key(mailbox)) == 0 then
            redis.call('RPUSH', ring_key(mailbox), '1')
            redis.call('EXPIRE', ring_key(mailbox), ARGV[2])
        end
    end
end
