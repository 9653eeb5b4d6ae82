-- Makes a marker, where one is due.
--
-- KEYS  meta, progress
-- ARGV  the shortest time from one marker to the next in milliseconds
-- Answer: when it was made; nothing when none is due

local meta = redis.call('HMGET', KEYS[1], 'last', 'marked')
local last, marked = tonumber(meta[1] or ''), tonumber(meta[2] or '')
if not (last and marked) or last == 0 then
  return nil
end
local progress = redis.call('HMGET', KEYS[2], 'asked', 'made')
if last < tonumber(progress[2] or '0') then
  return nil
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local since = now - tonumber(progress[1] or '0')
-- A clock that was set back must not stop the markers.
if since >= 0 and since < tonumber(ARGV[1]) then
  return nil
end
for _, key in ipairs(KEYS) do
  if not redis.acl_check_cmd('HSET', key, '1', '1') then
    return redis.error_reply('NOPERM this user has no right to HSET')
  end
end
-- Later than everything that was set aside before; what is set aside from now on is not older than it.
local made = math.max(now, last + 1, marked)
redis.call('HSET', KEYS[1], 'marked', made)
redis.call('HSET', KEYS[2], 'asked', now)
return made
