-- Say that the pods of a machine count: ARGV[3] its id, ARGV[4] for how many milliseconds, ARGV[5] = 1 if it believes
-- that they do, ARGV[6] = 1 if it may follow one that does not say so any more.
local seen = redis.call('HMGET', 'machine', 'id', 'until', 'asked', 'asked_until')
local holder, ends = seen[1], tonumber(seen[2] or -1)
local ours = holder == ARGV[3]
if holder and not ours then
  if ARGV[5] == '1' then return {'LOST', holder} end
  if ends > now then
    redis.call('HSET', 'machine', 'asked', ARGV[3], 'asked_until', now + ARGV[4])
    return {'OTHER', holder}
  end
end
-- Let go is 0. Whoever did not let go may only be away, as Redis may have been.
if not ours and ends ~= 0 and ARGV[5] ~= '1' and ARGV[6] ~= '1' then return {'AWAY', holder or ''} end
redis.call('HSET', 'machine', 'id', ARGV[3], 'until', now + ARGV[4])
if holder and not ours then
  -- Addresses are those of the machine before, until the scaler of this one has looked at them.
  redis.call('HDEL', 'machine', 'asked', 'asked_until')
  redis.call('DEL', 'heartbeat')
  return {'HELD', ''}
end
local asked = seen[3] and seen[3] ~= ARGV[3] and tonumber(seen[4]) > now
return {'HELD', asked and seen[3] or ''}
