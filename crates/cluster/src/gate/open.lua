-- Fills the gate for one epoch of a sale, unless it is on that epoch or a later one.
--
-- KEYS  meta, stock, buyers, pending, progress, held, staged: the keys of one sale
-- ARGV  epoch, created_at, starts_at, ends_at, per_user_limit, stock, paused, revision, how many milliseconds the units are
--       withheld where none of the filling before were for sale
-- Answer: 1 when it filled the gate, 0 when it left it as it was
--
-- All four main keys exist once this is done, so that a lost one is noticed: buyers has a field `-` that is no user, and
-- pending is a stream without entries.

local meta_key, stock_key, buyers_key, pending_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local found, entry, returns, withheld_until = redis.call('TYPE', meta_key).ok, '0-1', 0, 0
if found ~= 'none' then
  local meta = found == 'hash' and redis.call('HMGET', meta_key, 'epoch', 'created_at', 'entry', 'returns',
    'withheld_until') or {}
  local epoch = tonumber(meta[1] or '')
  if not epoch then
    return redis.error_reply('GATECORRUPT ' .. meta_key .. ' is not a hash with an epoch')
  end
  -- A sale of the same id that was created at another time is another sale, of a database that was restored since.
  if meta[2] == ARGV[2] and epoch >= tonumber(ARGV[1]) then
    return 0
  end
  -- Ids go on, so that none of the filling before comes again.
  entry = meta[3] or entry
  returns, withheld_until = tonumber(meta[4] or '') or 0, tonumber(meta[5] or '') or 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- As release.lua does. Where what was before is gone its number is, too: the clock's is larger than all that were counted.
local sold_out = redis.call('TYPE', stock_key).ok == 'string' and redis.call('GET', stock_key) == '0'
withheld_until = (sold_out or now < withheld_until) and now + ARGV[9] or 0
returns = math.max(now, returns + 1)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
for _, write in ipairs({ { 'UNLINK', meta_key }, { 'HSET', buyers_key, '1', '1' }, { 'SET', stock_key, '1' },
  { 'XDEL', pending_key, '1-1' } }) do
  if not redis.acl_check_cmd(unpack(write)) then
    return redis.error_reply('NOPERM this user has no right to ' .. write[1])
  end
end

-- SET is the first write, since a full Redis refuses it; once a script has written, nothing is refused any more. What an
-- older epoch left behind goes; UNLINK frees a large hash in the background.
redis.call('SET', KEYS[7], '')
redis.call('UNLINK', unpack(KEYS))
redis.call('XADD', pending_key, '0-1', '-', '-')
redis.call('XDEL', pending_key, '0-1')
redis.call('SET', stock_key, ARGV[6])
redis.call('HSET', buyers_key, '-', ARGV[1])
redis.call('HSET', meta_key, 'epoch', ARGV[1], 'fence', 0, 'run', run, 'created_at', ARGV[2], 'starts_at', ARGV[3],
  'ends_at', ARGV[4], 'per_user_limit', ARGV[5], 'pending', 0, 'entry', entry, 'last', 0, 'marked', 0, 'revision', 1,
  'returns', string.format('%d', returns), 'withheld_from', string.format('%d', now), 'withheld_until',
  string.format('%d', withheld_until), 'sale_stock', ARGV[6], 'paused', ARGV[7], 'sale_revision', ARGV[8])
return 1
