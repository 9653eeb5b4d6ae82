-- Moves one entry to another stream, in one step: it is never in both, and never in none.
--
-- KEYS  from, to
-- ARGV  id, and the fields and values that it has there
-- Answer: 1; 0 where the entry is there no more

if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then
  redis.call('XACK', KEYS[1], 'workers', ARGV[1])
  return 0
end
-- First what Redis may refuse because it is full.
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
redis.call('XACK', KEYS[1], 'workers', ARGV[1])
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
