-- Whether every unit of one sale is taken, and how often units have come back; the same checks as in reserve.lua.
--
-- KEYS  meta, stock, buyers, pending: four keys of one sale
-- ARGV  epoch, the run id of the server or '': any run is trusted
-- Answer: returns, holders; nothing where units are left, the sale is not open or paused, or a reservation would be refused

if redis.call('EXISTS', unpack(KEYS)) ~= 4 or redis.call('GET', KEYS[2]) ~= '0' then
  return nil
end
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'fence', 'run', 'starts_at', 'ends_at', 'returns', 'paused')
local epoch, fence, wanted = tonumber(meta[1] or ''), tonumber(meta[2] or ''), tonumber(ARGV[1])
local starts_at, ends_at = tonumber(meta[4] or ''), tonumber(meta[5] or '')
if not (epoch and fence and starts_at and ends_at) or epoch ~= wanted or fence > wanted then
  return nil
end
if ARGV[2] ~= '' and ARGV[2] ~= meta[3] then
  return nil
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now < starts_at or now >= ends_at or meta[7] == '1' then
  return nil
end
return { meta[6] or '0', redis.call('HLEN', KEYS[3]) - 1 }
