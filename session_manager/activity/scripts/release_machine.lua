-- Release the lease of the machine ARGV[3]: another machine may run the pods at once.
if redis.call('HGET', 'machine', 'id') ~= ARGV[3] then return {'taken'} end
redis.call('HSET', 'machine', 'until', 0)
return {'released'}
