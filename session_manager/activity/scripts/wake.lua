-- Request the pod: ARGV[3] idle, ARGV[4] milliseconds to keep it awake at least, ARGV[5] class, ARGV[6] ttl.
local stop = refused()
if stop then return stop end
local idle, keep = tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('HSET', hash, 'class', ARGV[5])
redis.call('HDEL', hash, 'sleep', 'fail_next')
if redis.call('ZCARD', inbox) == 0 then ends_with(ARGV[6]) end
wake(math.max(idle, keep))
return {address() and 'AWAKE' or 'WAKING'}
