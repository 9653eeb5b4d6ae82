-- What the scripts of a waiting room share; it stands in front of each of them.
--
-- KEYS  room (a hash), arrivals (a hash: user -> number): two keys of one sale
-- The room: seed, starts, rate, ttl, keep, arrivals, drawn ('' before the draw), over, steps (a list of {at, upto} as JSON, '' when
-- there is none), clock (microseconds since 1970 up to which the inlet has used its rate)

local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now_ms = math.floor(now_us / 1000)

-- A number as digits; Lua would write large ones with an exponent.
local function digits(number)
  return string.format('%.0f', number)
end

local function draw_when_due(room)
  if room.drawn == '' and now_ms >= tonumber(room.starts) then
    room.drawn = room.arrivals
    redis.call('HSET', KEYS[1], 'drawn', room.drawn)
    return true
  end
  return false
end

-- The room, or nothing when there is none.
local function read()
  local flat = redis.call('HGETALL', KEYS[1])
  if #flat == 0 then
    return nil
  end
  local room = {}
  for i = 1, #flat, 2 do
    room[flat[i]] = flat[i + 1]
  end
  return room
end

local function answer(room)
  return { room.seed, room.starts, room.rate, room.ttl, room.keep, digits(now_ms), room.arrivals, room.drawn, room.over, room.steps }
end
