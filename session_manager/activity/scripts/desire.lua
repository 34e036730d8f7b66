-- Return what the scaler needs to know of one session, atomically. A deleted session only has to end.
if generation[1] ~= ARGV[1] then return {'GENERATION'} end
local h = redis.call('HMGET', hash, 'deleted', 'class', 'pod', 'generation', 'retire', 'fail_tries', 'sleep', 'user', 'trace')
local deadline = redis.call('ZSCORE', 'awake', id)
return {
  'OK', h[1] and 1 or 0, h[2] or '', h[4] == generation[1] and h[3] or '', h[5] or '', h[6] or '0',
  deadline and 1 or 0, (deadline and (tonumber(deadline) <= now or h[7])) and 1 or 0, h[3] or '',
  redis.call('HGET', 'ended', id) or '', redis.call('LLEN', wakelist) > 0 and 1 or 0, h[8] or '',
  h[9] or '',
}
