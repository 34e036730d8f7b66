-- The message has ended in SQL and leaves the inbox. If it is running, its pod is replaced, and its turn notices that.
local stop = refused()
if stop then return stop end
local mid, idle = ARGV[3], tonumber(ARGV[4])
redis.call('ZREM', inbox, mid)
redis.call('HDEL', hash, 'fresh:' .. mid)
local holder = redis.call('GET', turn)
if holder and string.sub(holder, 1, #mid) == mid then
  local uid = redis.call('HGET', hash, 'pod')
  if uid then
    retire(uid)
    if redis.call('ZCARD', inbox) > 0 then wake(idle) else unwant() redis.call('PUBLISH', 'scale', id) end
  end
  return {'RUNNING'}
end
return {'WAITING'}
