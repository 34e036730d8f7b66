-- Add an accepted message to the inbox, and claim it at once if it is first, the turn is free and the pod answers.
local stop = refused()
if stop then return stop end
local mid, seq, lowest, token = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local lease, idle, class, user, trace = ARGV[7], tonumber(ARGV[8]), ARGV[9], ARGV[10], ARGV[11]

local known = redis.call('ZSCORE', inbox, mid)
if not known then
  -- An earlier message may be missing here: adding this one would let it run first.
  if lowest ~= seq and last_seq() ~= tonumber(seq) - 1 then return {'GAP'} end
end
local a = address()
local alone = redis.call('ZCARD', inbox) == (known and 1 or 0)
if not known then
  redis.call('ZADD', inbox, seq, mid)
  redis.call('HSET', hash, 'fresh:' .. mid, generation[1], 'class', class, 'user', user)
  added(seq)
end
if a then
  want(idle)
elseif alone or not backing_off() then
  traced(trace)
  wake(idle)
end
local rank = redis.call('ZRANK', inbox, mid)
local holder = redis.call('GET', turn)
if a and rank == 0 and trusted() then
  if not holder or holder == mid .. ' ' .. token then
    local claimed = claim(mid, token, lease, a)
    if claimed[1] == 'RUN' then return claimed end
  end
end
-- Position 1 is the next to run: the running message is still in the inbox.
return {'QUEUED', holder and math.max(rank, 1) or rank + 1, a and 1 or 0, a and 0 or crowd()}
