-- Whether the gate of one sale can be trusted.
--
-- KEYS  meta, stock, buyers, pending: four keys of one sale
-- ARGV  epoch, the run id of the server or '': any run is trusted
-- Answer: 0 it takes claims of the epoch; 1 it has no data, or a part of it is gone; 2, epoch: it was filled in another run;
--   3, epoch, fence: it is on another epoch, or fenced for a later one

if redis.call('EXISTS', unpack(KEYS)) ~= 4 then
  return { 1 }
end
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'fence', 'run')
local epoch, fence, wanted = tonumber(meta[1] or ''), tonumber(meta[2] or ''), tonumber(ARGV[1])
if not (epoch and fence) then
  return { 1 }
end
if epoch ~= wanted or fence > wanted then
  return { 3, epoch, fence }
end
if ARGV[2] ~= '' and ARGV[2] ~= meta[3] then
  return { 2, epoch }
end
return { 0 }
