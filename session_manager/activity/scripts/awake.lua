-- Every session in awake, as a flat list: id, 1 for a valid address, 1 for a deadline that has passed, the user.
local flat = {}
local ids = redis.call('ZRANGE', 'awake', 0, -1, 'WITHSCORES')
for i = 1, #ids, 2 do
  local h = redis.call('HMGET', 'session:' .. ids[i], 'pod', 'generation', 'sleep', 'user')
  flat[#flat + 1] = ids[i]
  flat[#flat + 1] = (h[1] and h[2] == generation[1]) and 1 or 0
  flat[#flat + 1] = (h[3] or tonumber(ids[i + 1]) <= now) and 1 or 0
  flat[#flat + 1] = h[4] or ''
end
return flat
