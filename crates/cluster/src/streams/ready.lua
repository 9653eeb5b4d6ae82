-- How many entries no consumer has taken.
--
-- KEYS  orders

local all = redis.call('XLEN', KEYS[1])
local taken = redis.pcall('XPENDING', KEYS[1], 'workers')
if taken.err then
  -- There is no group yet, so nobody has taken anything.
  return all
end
local ready = all - taken[1]
for _, consumer in ipairs(taken[4] or {}) do
  if consumer[1] == 'free' then
    ready = ready + tonumber(consumer[2])
  end
end
-- Whoever deletes entries that a consumer has leaves them in its list.
return math.max(0, ready)
