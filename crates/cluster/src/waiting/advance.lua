-- Draws where the start has come, and lets in whoever may come in now. The rule is that of RoomState::advance in seckill-core.
--
-- ARGV  1 or 0: whether orders can be taken, units left, orders so far
-- Answer: the room, or nothing

local room = read()
if not room then
  return nil
end
local just_drawn = draw_when_due(room)
local ttl = tonumber(room.ttl)
local over = tonumber(room.over)
local steps = room.steps == '' and {} or cjson.decode(room.steps)
local kept = {}
for _, step in ipairs(steps) do
  if step[1] + ttl <= now_ms then
    over = step[2]
  else
    kept[#kept + 1] = step
  end
end
local clock = tonumber(room.clock)
if room.drawn == '' or just_drawn or ARGV[1] ~= '1' then
  clock = now_us
else
  local rate = tonumber(room.rate)
  local elapsed = math.max(0, now_us - clock)
  if elapsed > 2000000 then
    elapsed = 1000000
  end
  clock = now_us - elapsed
  local allowed = math.floor(elapsed * rate / 1000000)
  local admitted = #kept > 0 and kept[#kept][2] or over
  local unused = math.min(admitted - over, math.max(0, admitted - tonumber(ARGV[3])))
  local grant = math.min(allowed, math.max(0, tonumber(ARGV[2]) - unused), tonumber(room.arrivals) - admitted)
  if grant < allowed then
    clock = now_us
  else
    clock = clock + math.ceil(allowed * 1000000 / rate)
  end
  if grant > 0 then
    local last = kept[#kept]
    if last and now_ms < last[1] + math.floor(ttl / 128) then
      last[2] = admitted + grant
    else
      kept[#kept + 1] = { now_ms, admitted + grant }
    end
  end
end
room.over = digits(over)
room.steps = #kept == 0 and '' or cjson.encode(kept)
redis.call('HSET', KEYS[1], 'over', room.over, 'steps', room.steps, 'clock', digits(clock))
return answer(room)
