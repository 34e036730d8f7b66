-- Shared by every script: the keys of one session, the clock, the generation gate, wake, claim and retire.
-- ARGV[1] is the generation that the caller knows, ARGV[2] the session's id; scripts read the rest from ARGV[3] on.
local id = ARGV[2]
local hash = 'session:' .. id
local inbox = hash .. ':inbox'
local turn = hash .. ':turn'
local wakelist = hash .. ':awake'
local feed = hash .. ':feed'
local pieces = hash .. ':pieces'

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local generation = redis.call('HMGET', 'generation', 'id', 'until')

-- A Redis that came back empty, or older than it was, has no generation or another one: nothing may be decided from it.
local function refused()
  if generation[1] ~= ARGV[1] then
    return {'GENERATION'}
  end
  if redis.call('HEXISTS', hash, 'deleted') == 1 then
    return {'DELETED'}
  end
end

local function recovered()
  return now >= tonumber(generation[2])
end

-- The address is valid only in the generation that published it, and while a scaler observes the pods.
local function address()
  local a = redis.call('HMGET', hash, 'ip', 'port', 'pod', 'generation')
  if a[3] and a[4] == generation[1] then
    return a
  end
end

local function trusted()
  return redis.call('EXISTS', 'heartbeat') == 1
end

-- KEDA starts a pod as soon as this list has an element.
local function push()
  if redis.call('LLEN', wakelist) == 0 then
    redis.call('RPUSH', wakelist, '1')
  end
end

-- The pod answers, and is wanted for longer.
local function want(idle)
  redis.call('ZADD', 'awake', 'GT', now + idle, id)
  push()
end

-- A pod is wanted. The scaler pushes once the session has a slot for it (admit.lua), so that no pod starts without one.
-- The trace of the request that wakes the session, for the scaler's log and spans.
local function traced(trace)
  if trace ~= '' then redis.call('HSET', hash, 'trace', trace) end
end

local function wake(idle)
  redis.call('ZADD', 'awake', 'GT', now + idle, id)
  redis.call('PUBLISH', 'scale', id)
end

-- The number of awake pods of the session's user if that is as many as the user may have (crowd.lua), or 0.
local function crowd()
  local user = redis.call('HGET', hash, 'user')
  return user and tonumber(redis.call('HGET', 'crowded', user) or 0) or 0
end

local function belongs_to(user)
  if user ~= '' then redis.call('HSET', hash, 'user', user) end
end

local function unwant()
  redis.call('HDEL', hash, 'sleep', 'keep')
  redis.call('ZREM', 'awake', id)
  redis.call('DEL', wakelist)
end

-- Every unfinished message up to this seq was put into the inbox: seqs have no gaps, and each is added after all before it.
local function last_seq()
  return tonumber(redis.call('HGET', hash, 'seq') or 0)
end

-- A session with nothing to do ends by expire.lua, which records the pod that has to go; this limit is for all other cases.
local function ends_with(ttl)
  redis.call('PEXPIRE', hash, tonumber(ttl) + 3600000)
end

local function added(seq)
  redis.call('HSET', hash, 'seq', math.max(last_seq(), tonumber(seq)))
  redis.call('PERSIST', hash)
end

local function backing_off()
  local next_try = redis.call('HGET', hash, 'fail_next')
  return next_try and tonumber(next_try) > now
end

local function announce()
  redis.call('LPUSH', 'ready', id)
  redis.call('PUBLISH', 'ready', id)
end

-- The pod with this uid gets no more messages; the scaler ends it when it sees the field.
local function retire(uid)
  if redis.call('HGET', hash, 'pod') == uid then
    redis.call('HDEL', hash, 'ip', 'port', 'pod', 'generation', 'given', 'old')
  end
  redis.call('HSET', hash, 'retire', uid)
end

-- Give the turn to the caller. A mark of this generation means that no pod was given the message before.
local function claim(mid, token, lease, a)
  local own = redis.call('GET', turn) == mid .. ' ' .. token
  local fresh = redis.call('HGET', hash, 'fresh:' .. mid) == generation[1]
  if not fresh and not own and not recovered() then
    return {'UNSETTLED'}
  end
  local seen = redis.call('HMGET', hash, 'given', 'old')
  local replace = not fresh and not own and (seen[1] == mid or seen[2] == '1')
  redis.call('SET', turn, mid .. ' ' .. token, 'PX', lease)
  redis.call('HDEL', hash, 'fresh:' .. mid)
  if not replace then
    redis.call('HSET', hash, 'given', mid)
  end
  return {'RUN', mid, fresh and 1 or 0, replace and 1 or 0, a[1], a[2], a[3]}
end
