-- Record and publish the phase of a start.
local stop = refused()
if stop then return stop end
if redis.call('ZSCORE', 'awake', id) then
  redis.call('HSET', hash, 'phase', ARGV[3])
  redis.call('PUBLISH', feed, ARGV[4])
end
return {'OK'}
