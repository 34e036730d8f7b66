-- Publish a piece of a reply, and keep it for those who join the turn later: ARGV[3] message id, ARGV[4] token, ARGV[5] the note,
-- ARGV[6] milliseconds to keep it, or 0 not to, ARGV[7] = 1 for the first piece of an attempt.
local stop = refused()
if stop then return stop end
local note, keep = ARGV[5], tonumber(ARGV[6])
if redis.call('GET', turn) == ARGV[3] .. ' ' .. ARGV[4] then
  if ARGV[7] == '1' then redis.call('DEL', pieces) end
  if keep > 0 then
    redis.call('RPUSH', pieces, note)
    redis.call('PEXPIRE', pieces, keep)
  end
end
redis.call('PUBLISH', feed, note)
return {'OK'}
