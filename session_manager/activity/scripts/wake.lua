-- Request the pod: ARGV[3] idle, ARGV[4] milliseconds to keep it awake at least, ARGV[5] class, ARGV[6] ttl,
-- ARGV[7] the session's user, ARGV[8] the trace.
local stop = refused()
if stop then return stop end
local idle, keep = tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('HSET', hash, 'class', ARGV[5])
belongs_to(ARGV[7])
traced(ARGV[8])
if keep > 0 then
  redis.call('HSET', hash, 'keep', math.max(now + keep, tonumber(redis.call('HGET', hash, 'keep') or 0)))
end
redis.call('HDEL', hash, 'sleep', 'fail_next')
if redis.call('ZCARD', inbox) == 0 then ends_with(ARGV[6]) end
wake(math.max(idle, keep))
if address() then return {'AWAKE', 0} end
return {'WAKING', crowd()}
