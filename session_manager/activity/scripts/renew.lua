-- Renew a lease, or take it back if Redis lost it.
local stop = refused()
if stop then return stop end
local holder, lease = ARGV[3], ARGV[4]
local present = redis.call('GET', turn)
if present and present ~= holder then return {'LOST'} end
redis.call('SET', turn, holder, 'PX', lease)
return {'OK'}
