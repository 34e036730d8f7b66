-- Take one announced session.
if generation[1] ~= ARGV[1] then return {'GENERATION'} end
return {'OK', redis.call('RPOP', 'ready') or ''}
