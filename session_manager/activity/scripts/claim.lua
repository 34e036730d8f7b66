-- Claim the first message of the inbox, or return why not. Wakes the pod if one is needed.
local stop = refused()
if stop then return stop end
local token, lease, idle = ARGV[3], ARGV[4], tonumber(ARGV[5])
local first = redis.call('ZRANGE', inbox, 0, 0)[1]
if not first then return {'EMPTY'} end
if redis.call('EXISTS', turn) == 1 then return {'BUSY'} end
local a = address()
if not a then
  if not backing_off() then wake(idle) end
  return {'ASLEEP'}
end
if not trusted() then return {'ASLEEP'} end
return claim(first, token, lease, a)
