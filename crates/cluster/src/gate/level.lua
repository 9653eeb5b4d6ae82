-- Where the gate of one sale stands, all of it read at one moment, in the same time however much is pending.
--
-- KEYS  meta, stock, buyers, pending: four keys of one sale
-- Answer: epoch, units left, holders, orders pending; nothing when the gate has no data for the sale or lacks a part of it

if redis.call('EXISTS', unpack(KEYS)) ~= 4 then
  return nil
end
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'pending')
return { meta[1] or '', redis.call('GET', KEYS[2]), redis.call('HLEN', KEYS[3]) - 1, meta[2] or '' }
