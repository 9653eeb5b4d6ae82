-- Applies what the ledger says of a sale's end, pause and stock, once for each revision.
--
-- KEYS  meta, stock, buyers, pending: four keys of one sale
-- ARGV  created_at, starts_at, ends_at, per_user_limit, stock, paused, revision, how many milliseconds units are withheld that come
--       while none are left
-- Answer: 1 when it applied the revision, 0 when it left the gate as it was

-- Whoever fills a gate that is gone, or a part of which is gone, takes all of this from the ledger.
if redis.call('EXISTS', unpack(KEYS)) ~= 4 then
  return 0
end
local meta = redis.call('HMGET', KEYS[1], 'created_at', 'sale_revision', 'sale_stock', 'returns')
if meta[1] ~= ARGV[1] then
  return 0
end
local revision, stock = tonumber(meta[2] or ''), tonumber(meta[3] or '')
if revision and stock and revision >= tonumber(ARGV[7]) then
  return 0
end
-- Read before the first write: a stock that is no number must stop this while nothing has changed.
local left = tonumber(redis.call('GET', KEYS[2]))
if not left then
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
  -- As release.lua does.
  redis.call('HSET', KEYS[1], 'returns', string.format('%d', (tonumber(meta[4] or '') or 0) + 1))
  if left == 0 then
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    redis.call('HSET', KEYS[1], 'withheld_from', string.format('%d', now), 'withheld_until',
      string.format('%d', now + ARGV[8]))
  end
end
redis.call('HSET', KEYS[1], 'ends_at', ARGV[3], 'paused', ARGV[6], 'sale_revision', ARGV[7], 'sale_stock',
  string.format('%d', math.max(tonumber(ARGV[5]), stock or 0)))
return 1
