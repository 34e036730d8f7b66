-- Sleep as soon as the fence can pass, whatever the deadline.
local stop = refused()
if stop then return stop end
if redis.call('ZSCORE', 'awake', id) then
  redis.call('HSET', hash, 'sleep', '1')
  redis.call('PUBLISH', 'scale', id)
end
return {'OK'}
