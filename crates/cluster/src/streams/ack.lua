-- Removes an entry for good.
--
-- KEYS  orders
-- ARGV  id

redis.call('XACK', KEYS[1], 'workers', ARGV[1])
return redis.call('XDEL', KEYS[1], ARGV[1])
