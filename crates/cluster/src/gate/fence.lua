-- Refuses every reservation of an earlier epoch from now on. What the gate holds stays readable.
--
-- KEYS  meta
-- ARGV  epoch

if redis.call('EXISTS', KEYS[1]) == 1
  and tonumber(redis.call('HGET', KEYS[1], 'fence') or '0') < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'fence', ARGV[1])
end
return 0
