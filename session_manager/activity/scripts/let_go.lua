-- The pods of the machine ARGV[3] count no more: another one may begin at once.
if redis.call('HGET', 'machine', 'id') == ARGV[3] then redis.call('HSET', 'machine', 'until', 0) end
return {'OK'}
