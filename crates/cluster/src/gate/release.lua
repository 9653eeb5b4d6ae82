-- Forgets orders that the ledger has rejected, and returns units.
--
-- KEYS  meta, stock, buyers, pending: four keys of one sale
-- ARGV  for each order: order id, user, 1: its units are returned
-- Answer: how many orders were forgotten

if redis.call('EXISTS', unpack(KEYS)) ~= 4 then
  return 0
end
for _, write in ipairs({ { 'HDEL', KEYS[3], '1' }, { 'INCRBY', KEYS[2], '1' } }) do
  if not redis.acl_check_cmd(unpack(write)) then
    return redis.error_reply('NOPERM this user has no right to ' .. write[1])
  end
end
-- Read before the first write: a stock that is no number must stop this while nothing has changed.
if not tonumber(redis.call('GET', KEYS[2])) then
  return redis.error_reply('GATECORRUPT ' .. KEYS[2] .. ' is not a whole number of units')
end
local users, units = {}, 0
for at = 1, #ARGV, 3 do
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
end
local forgotten = 0
for user in pairs(users) do
  forgotten = forgotten + redis.call('HDEL', KEYS[3], user)
end
return forgotten
