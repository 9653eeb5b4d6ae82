-- Records the oldest order that a worker holds, and removes what workers have not reported for a while.
--
-- KEYS  meta, held
-- ARGV  worker, when its oldest order was set aside or '', how long a report is believed in milliseconds

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reports = redis.call('HGETALL', KEYS[2])
for at = 1, #reports, 2 do
  local reported = tonumber(string.match(reports[at + 1], ':(%d+)$') or '')
  if not reported or math.abs(now - reported) > tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[2], reports[at])
  end
end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[2], ARGV[1])
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[2], ARGV[1], string.format('%s:%d', ARGV[2], now))
end
return 0
