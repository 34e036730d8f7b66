-- The session has a slot for its pod: KEDA may start it too.
local stop = refused()
if stop then return stop end
if redis.call('ZSCORE', 'awake', id) then push() end
return {'OK'}
