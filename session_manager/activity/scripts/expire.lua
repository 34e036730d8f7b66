-- The session is about to expire in SQL: remove its data here, unless a message arrived in between.
local stop = refused()
if stop then return stop end
if redis.call('ZSCORE', 'awake', id) or redis.call('ZCARD', inbox) > 0 or redis.call('EXISTS', turn) == 1 then
  return {'ALIVE'}
end
local dying = redis.call('HGET', hash, 'retire')
redis.call('DEL', hash, inbox, wakelist)
if dying then
  -- The scaler may not have ended the pod yet, and must not mistake it for a pod that Redis has forgotten.
  redis.call('HSET', hash, 'retire', dying)
  ends_with(0)
end
redis.call('PUBLISH', 'scale', id)
return {'OK'}
