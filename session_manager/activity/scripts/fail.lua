-- The pod cannot start: ARGV[3] reason, ARGV[4] remedy, ARGV[5] milliseconds until the next try, ARGV[6] tries so far,
-- ARGV[7] the note for everybody who waits.
local stop = refused()
if stop then return stop end
-- It was put to sleep or expired meanwhile, so the failure does not matter.
if not redis.call('ZSCORE', 'awake', id) then return {'UNWANTED'} end
redis.call('HSET', hash, 'fail_reason', ARGV[3], 'fail_remedy', ARGV[4], 'fail_next', now + ARGV[5], 'fail_tries', ARGV[6])
redis.call('HDEL', hash, 'ip', 'port', 'pod', 'generation', 'given', 'old', 'phase')
unwant()
announce()
redis.call('PUBLISH', feed, ARGV[7])
return {'OK'}
