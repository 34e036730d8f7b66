-- The pod with the uid ARGV[3] is gone; front doors that wait for its answer are notified. A session with nothing to do sleeps,
-- one with work stays wanted.
local stop = refused()
if stop then return stop end
if ARGV[3] ~= '' then redis.call('PUBLISH', 'gone', ARGV[3]) end
local uid = redis.call('HGET', hash, 'pod')
if uid and uid ~= ARGV[3] then return {'OTHER'} end
redis.call('HDEL', hash, 'ip', 'port', 'pod', 'generation', 'given', 'old', 'phase')
if redis.call('ZCARD', inbox) == 0 and redis.call('EXISTS', turn) == 0 then
  unwant()
  return {'IDLE'}
end
return {'WANTED'}
