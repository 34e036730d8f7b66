-- Return what a GET shows of one session.
local h = redis.call('HMGET', hash, 'pod', 'generation', 'phase', 'fail_reason', 'fail_remedy', 'fail_next', 'fail_tries')
return {
  redis.call('ZSCORE', 'awake', id) or '', (h[1] and h[2] == generation[1]) and 1 or 0, redis.call('ZCARD', inbox),
  redis.call('GET', turn) or '', h[3] or '', h[4] or '', h[5] or '', h[6] or '', h[7] or '',
}
