-- Fills the gate for one epoch of a sale, unless it is on that epoch or a later one.
--
-- KEYS  meta, stock, buyers, pending: the four keys of one sale
-- ARGV  epoch, starts_at, ends_at, per_user_limit, stock
-- Answer: 1 when it filled the gate, 0 when it left it as it was

local meta_key = KEYS[1]
local found = redis.call('TYPE', meta_key).ok
if found ~= 'none' then
  local epoch = found == 'hash' and tonumber(redis.call('HGET', meta_key, 'epoch') or '')
  if not epoch then
    return redis.error_reply('GATECORRUPT ' .. meta_key .. ' is not a hash with an epoch')
  end
  if epoch >= tonumber(ARGV[1]) then
    return 0
  end
end

-- What an older epoch left behind goes; UNLINK frees a large hash in the background.
redis.call('UNLINK', unpack(KEYS))
redis.call('SET', KEYS[2], ARGV[5])
redis.call('HSET', meta_key, 'epoch', ARGV[1], 'starts_at', ARGV[2], 'ends_at', ARGV[3],
  'per_user_limit', ARGV[4], 'revision', 1)
return 1
