-- Opens the room of a sale unless it is there.
--
-- ARGV  seed, starts, rate, ttl, keep
-- Answer: the room

local room = read()
if not room then
  -- A room without its hash has lost its order of arrival: the numbers begin anew.
  redis.call('UNLINK', KEYS[2])
  redis.call('HSET', KEYS[1], 'seed', ARGV[1], 'starts', ARGV[2], 'rate', ARGV[3], 'ttl', ARGV[4], 'keep', ARGV[5],
    'arrivals', '0', 'drawn', '', 'over', '0', 'steps', '', 'clock', digits(now_us))
  redis.call('PEXPIRE', KEYS[1], digits(math.max(1, tonumber(ARGV[5]) - now_ms)))
  room = read()
end
return answer(room)
