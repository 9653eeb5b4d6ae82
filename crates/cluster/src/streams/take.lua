-- Entries for one consumer: first those that others have given back, in their old order, then new ones.
--
-- KEYS  orders
-- ARGV  consumer, most entries wanted; ids of entries that the consumer has just read as new and has not handed on
-- Answer: entries, as XRANGE answers; nothing where the consumer may hand on the entries that it has read

local queue, me, room = KEYS[1], ARGV[1], ARGV[2]

local function hand(to, ids, mode)
  local claim = { 'XCLAIM', queue, 'workers', to, 0 }
  for _, id in ipairs(ids) do
    claim[#claim + 1] = id
  end
  claim[#claim + 1] = mode
  return redis.call(unpack(claim))
end

local known = false
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', queue, 'workers')) do
  known = known or consumer[2] == me
end
if not known then
  return redis.error_reply('QUEUEGONE ' .. me)
end

local given_back = redis.call('XPENDING', queue, 'workers', '-', '+', room, 'free')
if #given_back > 0 then
  if #ARGV > 2 then
    -- What was read as new is younger. It goes back, and comes again when it is its turn.
    hand('free', { unpack(ARGV, 3) }, 'JUSTID')
  end
  local ids = {}
  for _, entry in ipairs(given_back) do
    ids[#ids + 1] = entry[1]
  end
  return hand(me, ids)
end
if #ARGV > 2 then
  return false
end
local read = redis.call('XREADGROUP', 'GROUP', 'workers', me, 'COUNT', room, 'STREAMS', queue, '>')
return read and read[1][2] or {}
