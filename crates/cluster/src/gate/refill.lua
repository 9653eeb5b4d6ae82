-- Puts the staged filling in place of what was there, in the server's present run. A gate that is on the epoch already is left
-- as it is.
--
-- KEYS  meta, stock, buyers, pending, progress, held, staged: the keys of one sale
-- ARGV  epoch, created_at, starts_at, ends_at, per_user_limit, stock, paused, revision, units left, number of holders, how many
--       milliseconds the units are withheld where none of the filling before were for sale

local meta_key, stock_key, buyers_key, pending_key, progress_key, staged_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[7]
local epoch, found, revision, entry = tonumber(ARGV[1]), redis.call('TYPE', meta_key).ok, 0, '0-1'
local returns, withheld_until = 0, 0
if found == 'hash' then
  local meta = redis.call('HMGET', meta_key, 'epoch', 'created_at', 'revision', 'entry', 'returns', 'withheld_until')
  local present = tonumber(meta[1] or '') or 0
  if meta[2] == ARGV[2] and present == epoch then
    return 0
  end
  if meta[2] == ARGV[2] and present > epoch then
    return redis.error_reply('GATEEPOCH ' .. present)
  end
  revision, entry = tonumber(meta[3] or '') or 0, meta[4] or entry
  returns, withheld_until = tonumber(meta[5] or '') or 0, tonumber(meta[6] or '') or 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- As in open.lua.
local sold_out = redis.call('TYPE', stock_key).ok == 'string' and redis.call('GET', stock_key) == '0'
withheld_until = (sold_out or now < withheld_until) and now + ARGV[11] or 0
returns = math.max(now, returns + 1)

local holders, staged = tonumber(ARGV[10]), 0
if redis.call('HGET', staged_key, '-') == ARGV[1] then
  staged = redis.call('HLEN', staged_key) - 1
end
if staged ~= holders then
  return redis.error_reply('GATESTAGED ' .. staged)
end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
for _, write in ipairs({ { 'UNLINK', meta_key }, { 'RENAME', staged_key, buyers_key }, { 'SET', stock_key, '1' },
  { 'XADD', pending_key, '1-1', '-', '-' }, { 'XDEL', pending_key, '1-1' } }) do
  if not redis.acl_check_cmd(unpack(write)) then
    return redis.error_reply('NOPERM this user has no right to ' .. write[1])
  end
end

-- HSET is the first write, since a full Redis refuses it; once a script has written, nothing is refused any more.
redis.call('HSET', staged_key, '-', ARGV[1])
redis.call('UNLINK', meta_key, stock_key, buyers_key, pending_key, progress_key)
redis.call('RENAME', staged_key, buyers_key)
redis.call('XADD', pending_key, '0-1', '-', '-')
redis.call('XDEL', pending_key, '0-1')
redis.call('SET', stock_key, ARGV[9])
redis.call('HSET', meta_key, 'epoch', ARGV[1], 'fence', 0, 'run', run, 'created_at', ARGV[2], 'starts_at', ARGV[3],
  'ends_at', ARGV[4], 'per_user_limit', ARGV[5], 'pending', 0, 'entry', entry, 'last', 0, 'marked', 0,
  'revision', revision + 1, 'returns', string.format('%d', returns), 'withheld_from', string.format('%d', now),
  'withheld_until', string.format('%d', withheld_until), 'sale_stock', ARGV[6], 'paused', ARGV[7], 'sale_revision', ARGV[8])
return 1
