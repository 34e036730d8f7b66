-- Found the next generation if there is none, or one of another Redis process. ARGV[1] is its id, ARGV[2] the run_id of
-- this Redis, ARGV[3] the milliseconds in which other replicas take their leases back. A caller passes 0 if it knows that no
-- message is unfinished. Then there are no leases to take back, and the time that another caller has set ends now.
local found = redis.call('HMGET', 'generation', 'id', 'run_id', 'until')
if found[1] and found[2] == ARGV[2] then
  if ARGV[3] == '0' and tonumber(found[3]) > now then redis.call('HSET', 'generation', 'until', now) end
  return {found[1], 0}
end
redis.call('HSET', 'generation', 'id', ARGV[1], 'run_id', ARGV[2], 'until', now + ARGV[3])
return {ARGV[1], 1}
