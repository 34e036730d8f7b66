-- Observe the pods as a deputy, unless another scaler does: ARGV[3] is the deputy's name, ARGV[4] milliseconds.
local holder = redis.call('GET', 'heartbeat')
if holder and holder ~= ARGV[3] then return {'OTHER'} end
redis.call('SET', 'heartbeat', ARGV[3], 'PX', ARGV[4])
return {'OK'}
