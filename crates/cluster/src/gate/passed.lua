-- Records how far the queue has got.
--
-- KEYS  meta, progress
-- ARGV  when the marker was made

local made = tonumber(redis.call('HGET', KEYS[2], 'made') or '0')
if redis.call('EXISTS', KEYS[1]) == 1 and made < tonumber(ARGV[1]) then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[2], 'made', ARGV[1], 'came', time[1] * 1000 + math.floor(time[2] / 1000))
end
return 0
