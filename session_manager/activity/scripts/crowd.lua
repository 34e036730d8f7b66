-- The users with as many awake pods as they may have: pairs of user and number from ARGV[3] on.
if generation[1] ~= ARGV[1] then return {'GENERATION'} end
redis.call('DEL', 'crowded')
for i = 3, #ARGV, 2 do
  redis.call('HSET', 'crowded', ARGV[i], ARGV[i + 1])
end
return {'OK'}
