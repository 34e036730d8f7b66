-- Return who holds the turn, and the pieces kept so far.
local stop = refused()
if stop then return stop end
return {'OK', redis.call('GET', turn) or '', redis.call('LRANGE', pieces, 0, -1)}
