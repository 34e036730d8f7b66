-- A pod answers: ARGV[3..5] ip, port, uid, ARGV[6] idle, ARGV[7] = 1 for a pod older than this generation.
local stop = refused()
if stop then return stop end
local uid, idle, old = ARGV[5], tonumber(ARGV[6]), ARGV[7]
if redis.call('HGET', hash, 'retire') == uid then return {'RETIRED'} end
if old ~= '1' and not redis.call('ZSCORE', 'awake', id) then return {'UNWANTED'} end
if redis.call('HGET', hash, 'pod') ~= uid then redis.call('HDEL', hash, 'given') end
redis.call('HSET', hash, 'ip', ARGV[3], 'port', ARGV[4], 'pod', uid, 'generation', generation[1], 'old', old)
redis.call('HDEL', hash, 'phase', 'fail_reason', 'fail_remedy', 'fail_next', 'fail_tries', 'retire', 'trace')
want(idle)
announce()
return {'OK'}
