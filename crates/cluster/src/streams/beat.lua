-- Shows that a consumer is alive.
--
-- KEYS  orders
-- ARGV  consumer

for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], 'workers')) do
  if consumer[2] == ARGV[1] then
    -- Any read shows it. No entry has an id so high, so this one reads nothing.
    redis.call('XREADGROUP', 'GROUP', 'workers', ARGV[1], 'COUNT', 1, 'STREAMS', KEYS[1], '18446744073709551614-0')
    return 0
  end
end
return redis.error_reply('QUEUEGONE ' .. ARGV[1])
