-- The session expired in SQL: its data here go, unless a message came in between.
local stop = refused()
if stop then return stop end
if redis.call('ZSCORE', 'awake', id) or redis.call('ZCARD', inbox) > 0 or redis.call('EXISTS', turn) == 1 then
  return {'ALIVE'}
end
local dying = redis.call('HGET', hash, 'retire')
redis.call('DEL', hash, inbox, wakelist)
if dying then
  -- The scaler may not have ended the pod yet, and must not take it for one that Redis forgot.
  redis.call('HSET', hash, 'retire', dying)
  ends_with(0)
end
redis.call('PUBLISH', 'wake', id)
return {'OK'}
