-- The session expired in SQL: the scaler that owns the pods drops what the runtime keeps of it, and then reports that.
if generation[1] ~= ARGV[1] then return {'GENERATION'} end
redis.call('HSETNX', 'ended', id, 'expired')
redis.call('PUBLISH', 'scale', id)
return {'OK'}
