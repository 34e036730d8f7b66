-- The session expired in SQL for good: whoever has the pods forgets what it keeps of it, and says so then.
if generation[1] ~= ARGV[1] then return {'GENERATION'} end
redis.call('HSETNX', 'ended', id, 'expired')
redis.call('PUBLISH', 'wake', id)
return {'OK'}
