-- Makes the stream and its group where they are missing, and a consumer of the group. The stream keeps what is in it.
--
-- KEYS  orders
-- ARGV  consumer, or '': none

local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err and string.find(groups.err, 'WRONGTYPE', 1, true) then
  return groups
end
local is_there = false
for _, group in ipairs(groups.err and {} or groups) do
  -- Names and values in turn; the first value is the group's name.
  is_there = is_there or group[2] == 'workers'
end
if not is_there then
  -- From the first entry on: it may have been published before there was any consumer.
  redis.call('XGROUP', 'CREATE', KEYS[1], 'workers', '0', 'MKSTREAM')
end
if ARGV[1] == '' then
  return 0
end
-- A read makes its consumer, also while Redis is full and refuses XGROUP CREATECONSUMER. No entry has an id so high, so this one
-- reads nothing.
redis.call('XREADGROUP', 'GROUP', 'workers', ARGV[1], 'COUNT', 1, 'STREAMS', KEYS[1], '18446744073709551614-0')
return 0
