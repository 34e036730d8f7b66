-- The turn ended without a result: the message stays first. A pod with the given uid is replaced before the next try.
local stop = refused()
if stop then return stop end
local mid, token, idle, uid = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
if redis.call('GET', turn) == mid .. ' ' .. token then
  redis.call('DEL', turn, pieces)
end
if uid ~= '' then
  retire(uid)
  wake(idle)
end
return {'OK'}
