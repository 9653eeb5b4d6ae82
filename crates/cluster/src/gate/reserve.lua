-- Decides every claim of one batch in one atomic step, and removes settled entries from the pending log.
--
-- KEYS  meta, stock, buyers, pending: the four keys of one sale
-- ARGV  epoch, number of settled entries, their ids, then for each claim: order id, user, quantity, accepted_at
-- Answer: one flat list: the id of the new pending entry or '', then for each claim a code and what belongs to it:
--   0 reserved; 1 order id, quantity, pending, accepted_at: replayed; 2 remaining: sold out; 3 limit: over limit;
--   4 not open; 5 closed
--
-- Redis does not roll a script back. So everything is read and checked first, and nothing after the first write can
-- fail: run again after a lost answer, the same call finds its own buyers and deducts nothing.

local meta_key, stock_key, buyers_key, pending_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local function corrupt(what)
  return redis.error_reply('GATECORRUPT ' .. what)
end

-- Non-negative integers of up to 15 digits: those that Lua's floating point holds exactly.
local function integer(text)
  if text and #text <= 15 and string.find(text, '^%d+$') then
    return tonumber(text)
  end
end

local function is(key, wanted, missing_is_fine)
  local found = redis.call('TYPE', key).ok
  return found == wanted or (missing_is_fine and found == 'none')
end

-- Read and check.

if is(meta_key, 'none') then
  return redis.error_reply('GATEMISSING no data for this sale')
end
if not is(meta_key, 'hash') then
  return corrupt(meta_key .. ' is not a hash')
end
if not is(stock_key, 'string') then
  return corrupt(stock_key .. ' is missing or not a string')
end
if not is(buyers_key, 'hash', true) then
  return corrupt(buyers_key .. ' is not a hash')
end
if not is(pending_key, 'stream', true) then
  return corrupt(pending_key .. ' is not a stream')
end

local meta = redis.call('HMGET', meta_key, 'epoch', 'starts_at', 'ends_at', 'per_user_limit')
local epoch, starts_at, ends_at, limit = integer(meta[1]), integer(meta[2]), integer(meta[3]), integer(meta[4])
if not (epoch and starts_at and ends_at and limit) then
  return corrupt(meta_key .. ' lacks epoch, starts_at, ends_at or per_user_limit, or they are no integers')
end
if epoch ~= integer(ARGV[1]) then
  return redis.error_reply('GATEEPOCH ' .. meta[1])
end
local remaining = integer(redis.call('GET', stock_key))
if not remaining then
  return corrupt(stock_key .. ' is not a whole number of units')
end

local settled, is_pending = {}, {}
local first_claim = 3 + (integer(ARGV[2]) or #ARGV)
for at = 3, first_claim - 1 do
  settled[#settled + 1] = ARGV[at]
  is_pending[ARGV[at]] = false
end
if first_claim > #ARGV + 1 or (#ARGV + 1 - first_claim) % 4 ~= 0 then
  return corrupt('the arguments of reserve are out of step')
end

local claims, users = {}, {}
for at = first_claim, #ARGV, 4 do
  local quantity = integer(ARGV[at + 2])
  if not (quantity and quantity > 0 and integer(ARGV[at + 3])) then
    return corrupt('a claim has a bad quantity or time')
  end
  claims[#claims + 1] = { order = ARGV[at], user = ARGV[at + 1], quantity = quantity, accepted_at = ARGV[at + 3] }
  users[#users + 1] = ARGV[at + 1]
end

local holders = {}
if #users > 0 then
  for at, text in ipairs(redis.call('HMGET', buyers_key, unpack(users))) do
    if text then
      local order, quantity, accepted_at, entry = string.match(text, '^([%x%-]+):(%d+):(%d+):(%d+%-%d+)$')
      if not order then
        return corrupt(buyers_key .. ' has an entry that is not order:quantity:accepted_at:entry')
      end
      holders[users[at]] = { order = order, quantity = quantity, accepted_at = accepted_at, entry = entry }
    end
  end
end

-- Decide.

-- An order that this very call reserves, or reserves again, is published by its caller: not pending to the others.
local function pending(holder)
  if holder.in_this_call then
    return 0
  end
  if is_pending[holder.entry] == nil then
    is_pending[holder.entry] = #redis.call('XRANGE', pending_key, holder.entry, holder.entry) > 0
  end
  return is_pending[holder.entry] and 1 or 0
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer, reserved, fields, deducted = { '' }, {}, {}, 0

local function say(...)
  for _, value in ipairs({ ... }) do
    answer[#answer + 1] = value
  end
end

for _, claim in ipairs(claims) do
  local holder = holders[claim.user]
  if holder and holder.order == claim.order then
    holder.in_this_call = true
    say(0)
  elseif holder then
    say(1, holder.order, holder.quantity, pending(holder), holder.accepted_at)
  elseif now < starts_at then
    say(4)
  elseif now >= ends_at then
    say(5)
  elseif claim.quantity > limit then
    say(3, limit)
  elseif claim.quantity > remaining then
    say(2, remaining)
  else
    claim.in_this_call = true
    holders[claim.user] = claim
    remaining = remaining - claim.quantity
    deducted = deducted + claim.quantity
    reserved[#reserved + 1] = claim
    fields[#fields + 1] = claim.order
    fields[#fields + 1] = string.format('%s:%d:%s', claim.user, claim.quantity, claim.accepted_at)
    say(0)
  end
end

-- Write. XADD comes first: should Redis refuse writes (no memory, a read-only replica), it refuses the first of them.

if #reserved > 0 then
  local entry = redis.call('XADD', pending_key, '*', unpack(fields))
  redis.call('DECRBY', stock_key, deducted)
  local buyers = {}
  for _, claim in ipairs(reserved) do
    buyers[#buyers + 1] = claim.user
    buyers[#buyers + 1] = string.format('%s:%d:%s:%s', claim.order, claim.quantity, claim.accepted_at, entry)
  end
  redis.call('HSET', buyers_key, unpack(buyers))
  answer[1] = entry
end
for at = 1, #settled, 1000 do
  redis.call('XDEL', pending_key, unpack(settled, at, math.min(at + 999, #settled)))
end
return answer
