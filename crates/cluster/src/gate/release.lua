-- Forgets orders that the ledger has rejected, and returns units.
--
-- KEYS  meta, stock, buyers, pending: four keys of one sale
-- ARGV  how many milliseconds units are withheld that come back while none are left, then for each order: order id, user,
--       1: its units are returned
-- Answer: how many orders were forgotten

if redis.call('EXISTS', unpack(KEYS)) ~= 4 then
  return 0
end
for _, write in ipairs({ { 'HDEL', KEYS[3], '1' }, { 'INCRBY', KEYS[2], '1' }, { 'HSET', KEYS[1], '1', '1' } }) do
  if not redis.acl_check_cmd(unpack(write)) then
    return redis.error_reply('NOPERM this user has no right to ' .. write[1])
  end
end
-- Read before the first write: a stock that is no number must stop this while nothing has changed.
local left = tonumber(redis.call('GET', KEYS[2]))
if not left then
  return redis.error_reply('GATECORRUPT ' .. KEYS[2] .. ' is not a whole number of units')
end
local returns, users, units = tonumber(redis.call('HGET', KEYS[1], 'returns') or '0'), {}, 0
for at = 2, #ARGV, 3 do
  local held = redis.call('HGET', KEYS[3], ARGV[at + 1])
  local order, quantity = string.match(held or '', '^([%x%-]+):(%d+):')
  if order == ARGV[at] and not users[ARGV[at + 1]] then
    users[ARGV[at + 1]] = true
    units = units + (ARGV[at + 2] == '1' and quantity or 0)
  end
end
-- INCRBY comes first: a full Redis refuses it, and then nothing has changed.
if units > 0 then
  redis.call('INCRBY', KEYS[2], string.format('%d', units))
  redis.call('HSET', KEYS[1], 'returns', string.format('%d', returns + 1))
  if left == 0 then
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    redis.call('HSET', KEYS[1], 'withheld_from', string.format('%d', now), 'withheld_until',
      string.format('%d', now + ARGV[1]))
  end
end
local forgotten = 0
for user in pairs(users) do
  forgotten = forgotten + redis.call('HDEL', KEYS[3], user)
end
return forgotten
