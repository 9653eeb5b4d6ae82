-- Gives back what some consumers hold, and removes these: the one that leaves, and those that were silent for too long. What is
-- given back belongs to the consumer `free` until another one takes it.
--
-- KEYS  orders
-- ARGV  the consumer that leaves, or ''; milliseconds that are too long
-- Answer: consumers that are left, consumers that were silent for too long, entries that these held

local queue, page = KEYS[1], 100
local consumers = redis.pcall('XINFO', 'CONSUMERS', queue, 'workers')
if consumers.err then
  if string.find(consumers.err, 'NOGROUP', 1, true) or string.find(consumers.err, 'no such key', 1, true) then
    return { 0, 0, 0 }
  end
  return consumers
end

local function give_back(name)
  local from, entries = '-', 0
  repeat
    local held = redis.call('XPENDING', queue, 'workers', from, '+', page, name)
    if #held > 0 then
      local claim = { 'XCLAIM', queue, 'workers', 'free', 0 }
      for _, entry in ipairs(held) do
        claim[#claim + 1] = entry[1]
      end
      claim[#claim + 1] = 'JUSTID'
      redis.call(unpack(claim))
      from = '(' .. held[#held][1]
      entries = entries + #held
    end
  until #held < page
  redis.call('XGROUP', 'DELCONSUMER', queue, 'workers', name)
  return entries
end

local left, silent, held = 0, 0, 0
for _, consumer in ipairs(consumers) do
  local name, idle = consumer[2], consumer[6]
  if name == ARGV[1] then
    give_back(name)
  elseif name ~= 'free' then
    if idle > tonumber(ARGV[2]) then
      silent = silent + 1
      held = held + give_back(name)
    else
      left = left + 1
    end
  end
end
return { left, silent, held }
