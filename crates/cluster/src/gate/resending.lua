-- Records that orders are about to be sent again: no marker that was made before says anything about them.
--
-- KEYS  meta

local meta = redis.call('HMGET', KEYS[1], 'last', 'marked')
local last, marked = tonumber(meta[1] or ''), tonumber(meta[2] or '')
if last and marked then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'last', math.max(time[1] * 1000 + math.floor(time[2] / 1000), last, marked))
end
return 0
