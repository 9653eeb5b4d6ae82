-- The oldest pending entries of at least some age, by Redis's own clock.
--
-- KEYS  pending
-- ARGV  age in milliseconds, most entries wanted
-- Answer: as XRANGE answers

local time = redis.call('TIME')
local newest = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1])
if newest < 0 then
  return {}
end
return redis.call('XRANGE', KEYS[1], '-', string.format('%d', newest), 'COUNT', ARGV[2])
