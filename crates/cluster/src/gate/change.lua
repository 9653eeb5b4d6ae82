-- Applies what the ledger says of a sale's end, pause and stock, once for each revision.
--
-- KEYS  meta, stock, buyers, pending: four keys of one sale
-- ARGV  created_at, starts_at, ends_at, per_user_limit, stock, paused, revision
-- Answer: 1 when it applied the revision, 0 when it left the gate as it was

-- Whoever fills a gate that is gone, or a part of which is gone, takes all of this from the ledger.
if redis.call('EXISTS', unpack(KEYS)) ~= 4 then
  return 0
end
local meta = redis.call('HMGET', KEYS[1], 'created_at', 'sale_revision', 'sale_stock')
if meta[1] ~= ARGV[1] then
  return 0
end
local revision, stock = tonumber(meta[2] or ''), tonumber(meta[3] or '')
if revision and stock and revision >= tonumber(ARGV[7]) then
  return 0
end
-- Read before the first write: a stock that is no number must stop this while nothing has changed.
if not tonumber(redis.call('GET', KEYS[2])) then
  return redis.error_reply('GATECORRUPT ' .. KEYS[2] .. ' is not a whole number of units')
end
for _, write in ipairs({ { 'INCRBY', KEYS[2], '1' }, { 'HSET', KEYS[1], '1', '1' } }) do
  if not redis.acl_check_cmd(unpack(write)) then
    return redis.error_reply('NOPERM this user has no right to ' .. write[1])
  end
end

-- A gate that an older version of seckill has filled does not say for how many units: for all that the ledger had.
local added = stock and tonumber(ARGV[5]) - stock or 0
-- The first write, since a full Redis refuses it; once a script has written, nothing is refused any more.
if added > 0 then
  redis.call('INCRBY', KEYS[2], string.format('%d', added))
end
redis.call('HSET', KEYS[1], 'ends_at', ARGV[3], 'paused', ARGV[6], 'sale_revision', ARGV[7], 'sale_stock',
  string.format('%d', math.max(tonumber(ARGV[5]), stock or 0)))
return 1
