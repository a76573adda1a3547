-- Free the unique keys of held jobs.
-- ARGV: time, then for each: number, token.
-- Returns how many jobs were held.
-- Atomic, because a lease must be checked and the key freed in one step.
begin()
local unlocked = 0
for at = 2, #ARGV, 2 do
    local job = held(ARGV[at], ARGV[at + 1])
    if job then
        if job[UNIQUE] ~= '' then
            redis.call('HDEL', unique_key, job[UNIQUE])
            job[UNIQUE] = ''
            save_job(ARGV[at], job)
        end
        unlocked = unlocked + 1
    end
end
return unlocked
