-- Put unfinished messages of SQL back into the inbox: pairs of message id and seq from ARGV[6] on. They are never fresh.
local stop = refused()
if stop then return stop end
local idle, class = tonumber(ARGV[3]), ARGV[4]
for i = 6, #ARGV, 2 do
  redis.call('ZADD', inbox, 'NX', ARGV[i + 1], ARGV[i])
  added(ARGV[i + 1])
end
redis.call('HSET', hash, 'class', class)
belongs_to(ARGV[5])
if address() then
  want(idle)
elseif not backing_off() then
  wake(idle)
end
return {'OK', redis.call('EXISTS', turn)}
