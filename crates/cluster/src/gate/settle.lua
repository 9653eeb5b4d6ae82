-- Removes settled entries from the pending log, and corrects the number of pending orders; as at the end of reserve.lua.
--
-- KEYS  meta, pending
-- ARGV  ids of entries

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call('HMGET', KEYS[1], 'pending', 'last', 'marked')
local pending, last, marked = tonumber(meta[1] or ''), tonumber(meta[2] or ''), tonumber(meta[3] or '')
if not redis.acl_check_cmd('HSET', KEYS[1], '1', '1') then
  return redis.error_reply('NOPERM this user has no right to HSET')
end

local removed = 0
for _, id in ipairs(ARGV) do
  if redis.call('XDEL', KEYS[2], id) == 1 and pending and last and marked then
    local ms, sequence = string.match(id, '^(%d+)%-(%d+)$')
    removed = removed + 1
    pending = math.max(0, pending - sequence % 512)
    if tonumber(ms) <= marked then
      last = math.max(last, now, marked)
    end
  end
end
if removed > 0 then
  redis.call('HSET', KEYS[1], 'pending', pending, 'last', last)
end
return removed
