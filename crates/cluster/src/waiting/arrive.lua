-- Gives a user a number, or tells the one that they have.
--
-- ARGV  user, the number whose admission is over or '', the most numbers
-- Answer: the number; 0 when all are given out; nothing when there is no room

local room = read()
if not room then
  return nil
end
local number = redis.call('HGET', KEYS[2], ARGV[1])
if number and number ~= ARGV[2] then
  return tonumber(number)
end
if tonumber(room.arrivals) >= tonumber(ARGV[3]) then
  return 0
end
-- Before the arrival, which must not be counted among those who are drawn.
draw_when_due(room)
number = tonumber(room.arrivals) + 1
redis.call('HSET', KEYS[1], 'arrivals', digits(number))
redis.call('HSET', KEYS[2], ARGV[1], digits(number))
if number == 1 then
  redis.call('PEXPIRE', KEYS[2], digits(math.max(1, tonumber(room.keep) - now_ms)))
end
return number
