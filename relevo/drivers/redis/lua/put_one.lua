-- Put one job that is to run now, without a unique key and a fair key: what put.lua does with it,
-- without what such a job doesn't need. It has none of common.lua, which takes 16 of put.lua's 62 us.
-- ARGV: time, the number of this put of this thread, id, queue, payload, priority, then the keys of
--       this thread's puts, jobs, payloads, ids, sequence, queues, turns, pending, bell.
-- Returns 1, or nil if the queue is fair: nothing is done then, and put.lua has to do it.
-- Atomic as put.lua: a repeat after a lost answer must find that the job is there.
local request, id, queue, payload, priority = unpack(ARGV, 2, 6)
local put, jobs, payloads, ids, sequence = unpack(ARGV, 7, 11)
local queues, turns, pending, bell = unpack(ARGV, 12, 15)
local REMEMBERED, BELL_CAP = 120, 100 -- as in put.lua and common.lua
-- The same text as put.lua's: a repeat may come by the other script, if the queue's turns have ended.
local done = cmsgpack.pack({request, {id, 1}})
local last = redis.call('SET', put, done, 'EX', REMEMBERED, 'GET')
if last and cmsgpack.unpack(last)[1] == request then return 1 end
if redis.call('EXISTS', turns) == 1 then
    redis.call('DEL', put)
    return false
end
local now = tonumber(ARGV[1])
if not now then
    local time = redis.call('TIME')
    now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local number = string.format('%016d', redis.call('INCR', sequence))
redis.call('HSET', payloads, number, payload)
if redis.call('HSETNX', ids, id, number) == 0 then
    redis.call('HSET', ids, id, redis.call('HGET', ids, id) .. ',' .. number)
end
redis.call('SADD', queues, queue)
local job = {id, queue, tonumber(priority), 0, 0, now, now, '', '', ''}
redis.call('HSET', jobs, number, cmsgpack.pack(job))
redis.call('ZADD', pending, string.format('%.17g', now), number)
if redis.call('LLEN', bell) < BELL_CAP then redis.call('RPUSH', bell, '1') end
return 1
