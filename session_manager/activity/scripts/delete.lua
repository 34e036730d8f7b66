-- The session was deleted in SQL: it must not run, wake or start again. Repeatable.
if generation[1] ~= ARGV[1] then return {'GENERATION'} end
redis.call('DEL', hash, inbox, turn, wakelist, pieces)
redis.call('ZREM', 'awake', id)
redis.call('HSET', hash, 'deleted', '1')
redis.call('PEXPIRE', hash, ARGV[3])
redis.call('HSET', 'ended', id, 'deleted')
redis.call('PUBLISH', 'scale', id)
redis.call('PUBLISH', feed, ARGV[4])
return {'OK'}
