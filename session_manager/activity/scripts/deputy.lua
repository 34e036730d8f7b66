-- Watch the pods in place of whoever did, unless somebody does: ARGV[3] is the deputy's name, ARGV[4] milliseconds.
local holder = redis.call('GET', 'heartbeat')
if holder and holder ~= ARGV[3] then return {'OTHER'} end
redis.call('SET', 'heartbeat', ARGV[3], 'PX', ARGV[4])
return {'OK'}
