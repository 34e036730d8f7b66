-- The only way to sleep: nothing waits, nothing runs, the deadline has passed. ARGV[3] = 1 ignores the deadline, 2 also
-- ignores waiting messages, which go on waiting. 3 makes room for another pod: it ignores the deadline, unless a wake keeps
-- the pod awake.
local stop = refused()
if stop then return stop end
if redis.call('EXISTS', turn) == 1 then return {'BUSY'} end
if not redis.call('ZSCORE', 'awake', id) and not redis.call('HGET', hash, 'pod') then return {'ASLEEP'} end
if ARGV[3] ~= '2' and redis.call('ZCARD', inbox) > 0 then
  announce()
  return {'BUSY'}
end
if not recovered() then return {'UNSETTLED'} end
if ARGV[3] == '3' then
  if tonumber(redis.call('HGET', hash, 'keep') or 0) > now then return {'EARLY'} end
  if redis.call('LLEN', wakelist) > 1 then return {'BUSY'} end
end
if ARGV[3] ~= '2' and redis.call('LLEN', wakelist) > 1 then
  redis.call('LTRIM', wakelist, 0, 0)
  redis.call('ZADD', 'awake', 'GT', now + tonumber(ARGV[4]), id)
  return {'BUSY'}
end
local deadline = redis.call('ZSCORE', 'awake', id)
if ARGV[3] == '0' and not redis.call('HGET', hash, 'sleep') and deadline and tonumber(deadline) > now then
  return {'EARLY'}
end
local uid = redis.call('HGET', hash, 'pod')
if uid then retire(uid) end
redis.call('HDEL', hash, 'phase')
unwant()
redis.call('PUBLISH', 'scale', id)
return {'PASSED'}
