-- Records what has been compared with the ledger.
--
-- KEYS  meta, progress
-- ARGV  everything set aside before this

local reconciled = tonumber(redis.call('HGET', KEYS[2], 'reconciled') or '0')
if redis.call('EXISTS', KEYS[1]) == 1 and reconciled < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[2], 'reconciled', ARGV[1])
end
return 0
