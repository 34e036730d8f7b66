-- A message has its result in SQL: remove it, release the turn, and return how many wait.
local stop = refused()
if stop then return stop end
local mid, token, idle, ttl, dead, note = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8]
if redis.call('GET', turn) == mid .. ' ' .. token then
  redis.call('DEL', turn, pieces)
end
redis.call('ZREM', inbox, mid)
redis.call('HDEL', hash, 'fresh:' .. mid)
local left = redis.call('ZCARD', inbox)
if dead ~= '' then
  retire(dead)
  if left > 0 then wake(idle) else unwant() redis.call('PUBLISH', 'scale', id) end
elseif redis.call('ZSCORE', 'awake', id) then
  redis.call('ZADD', 'awake', 'GT', now + idle, id)
end
if left == 0 then
  ends_with(ttl)
  if redis.call('HGET', hash, 'sleep') then redis.call('PUBLISH', 'scale', id) end
end
if note ~= '' then redis.call('PUBLISH', feed, note) end
return {'OK', left}
