-- Claim the lease of the machine that runs the pods. ARGV[3]: id of the machine; ARGV[4]: milliseconds; ARGV[5] = 1 if
-- its last claim succeeded; ARGV[6] = 1 if it may replace a machine whose lease expired without being released.
local seen = redis.call('HMGET', 'machine', 'id', 'until', 'asked', 'asked_until')
local holder, ends = seen[1], tonumber(seen[2] or -1)
local ours = holder == ARGV[3]
if holder and not ours then
  if ARGV[5] == '1' then return {'lost', holder} end
  if ends > now then
    redis.call('HSET', 'machine', 'asked', ARGV[3], 'asked_until', now + ARGV[4])
    return {'taken', holder}
  end
end
-- A released lease has 0. A machine that did not release may still run, since Redis itself may have been away.
if not ours and ends ~= 0 and ARGV[5] ~= '1' and ARGV[6] ~= '1' then return {'taken', holder or '', 'expired'} end
redis.call('HSET', 'machine', 'id', ARGV[3], 'until', now + ARGV[4])
if holder and not ours then
  -- Addresses of pods belong to the previous machine until the scaler of this one has checked them.
  redis.call('HDEL', 'machine', 'asked', 'asked_until')
  redis.call('DEL', 'heartbeat')
  return {'held', ''}
end
local asked = seen[3] and seen[3] ~= ARGV[3] and tonumber(seen[4]) > now
return {'held', asked and seen[3] or ''}
