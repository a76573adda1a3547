-- A page of the names of the queues that hold a job; names of empty queues are removed.
-- ARGV: time, the cursor ('0' at the beginning), about how many.
-- Returns the next cursor ('0' at the end), then names. A name may come twice.
-- In pages, because a hundred thousand names in one call would block Redis.
begin()
local page = redis.call('SSCAN', queues_key, ARGV[2], 'COUNT', ARGV[3])
local answer = {page[1]}
for _, queue in ipairs(page[2]) do
    if redis.call('EXISTS', reserved_key(queue)) == 1 then
        answer[#answer + 1] = queue
        -- Leases of a worker of an older version are not in `lease_ends`.
        if not redis.call('ZSCORE', lease_ends_key, queue) then note_next_lease(queue) end
    elseif not forget_if_empty(queue) then
        answer[#answer + 1] = queue
    end
end
return answer
