-- Who finds no generation, or one of another Redis process, founds the next: ARGV[1] its id, ARGV[2] run_id of this Redis,
-- ARGV[3] milliseconds in which other replicas take their leases back. 0 is said by who knows that nothing is open, so that
-- there is nothing to take back: it ends also what another one, who did not know, has left for that.
local found = redis.call('HMGET', 'generation', 'id', 'run_id', 'until')
if found[1] and found[2] == ARGV[2] then
  if ARGV[3] == '0' and tonumber(found[3]) > now then redis.call('HSET', 'generation', 'until', now) end
  return {found[1], 0}
end
redis.call('HSET', 'generation', 'id', ARGV[1], 'run_id', ARGV[2], 'until', now + ARGV[3])
return {ARGV[1], 1}
