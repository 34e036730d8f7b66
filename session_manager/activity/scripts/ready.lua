-- Take one announced session. First come those that were taken more than ARGV[3] milliseconds ago and never attended.
if generation[1] ~= ARGV[1] then return {'GENERATION'} end
local taken = redis.call('ZRANGEBYSCORE', 'ready:taken', '-inf', now, 'LIMIT', 0, 1)[1] or redis.call('RPOP', 'ready')
if not taken then return {'OK', ''} end
redis.call('ZADD', 'ready:taken', now + ARGV[3], taken)
return {'OK', taken}
