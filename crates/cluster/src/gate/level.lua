-- Where the gate of one sale stands, all of it read at one moment.
--
-- KEYS  meta, stock, buyers, pending: the four keys of one sale
-- Answer: epoch, units left, orders set aside, orders pending; nothing when the gate has no data for the sale

if redis.call('EXISTS', KEYS[1]) == 0 then
  return nil
end

-- In steps, so that a long log is never in Lua's memory as a whole.
local pending, from = 0, '-'
repeat
  local entries = redis.call('XRANGE', KEYS[4], from, '+', 'COUNT', 100)
  for _, entry in ipairs(entries) do
    pending = pending + #entry[2] / 2
    from = '(' .. entry[1]
  end
until #entries < 100

local stock = redis.call('GET', KEYS[2])
return { redis.call('HGET', KEYS[1], 'epoch') or '', stock or '', redis.call('HLEN', KEYS[3]), pending }
