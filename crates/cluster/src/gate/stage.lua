-- Adds holders to a new filling that nobody uses yet. Its field `-` says for which epoch it is.
--
-- KEYS  staged
-- ARGV  epoch, 1: throw away what was staged before, then for each holder: user, order id:quantity:accepted_at:entry

local key = KEYS[1]
for _, write in ipairs({ { 'UNLINK', key }, { 'HSET', key, '1', '1' } }) do
  if not redis.acl_check_cmd(unpack(write)) then
    return redis.error_reply('NOPERM this user has no right to ' .. write[1])
  end
end
if ARGV[2] == '1' then
  redis.call('UNLINK', key)
elseif redis.call('HGET', key, '-') ~= ARGV[1] then
  return redis.error_reply('GATESTAGED 0')
end
redis.call('HSET', key, '-', ARGV[1], unpack(ARGV, 3))
return 0
