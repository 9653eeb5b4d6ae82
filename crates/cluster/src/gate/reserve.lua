-- Decides every claim of one batch in one atomic step, and removes settled entries from the pending log.
--
-- KEYS  meta, stock, buyers, pending: four keys of one sale
-- ARGV  epoch, number of settled entries, their ids, then for each claim: order id, user, quantity, accepted_at; at last the
--       run id of the server as its connection has seen it, or '': any run is trusted
-- Answer: one flat list: the id of the new pending entry or '', then for each claim a code and what belongs to it:
--   0 reserved; 1 order id, quantity, pending, accepted_at: replayed; 2 remaining: sold out; 3 limit: over limit;
--   4 not open; 5 closed; 6 paused
--
-- Redis does not roll a script back. So everything is read and checked first, and nothing after the first write can
-- fail: run again after a lost answer, the same call finds its own buyers and deducts nothing.
--
-- The sequence number of a pending entry modulo 512 is the number of its orders. So settling an entry corrects the number of
-- pending orders without reading the entry.

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

-- Read and check. A key of another type makes its read fail.

if redis.call('EXISTS', meta_key, stock_key, buyers_key, pending_key) ~= 4 then
  return redis.error_reply('GATEMISSING a key of this sale is gone')
end
-- Without one of these rights the writes would end half way. XADD comes first, so its own refusal is soon enough.
for _, write in ipairs({ { 'DECRBY', stock_key, '1' }, { 'HSET', buyers_key, '1', '1' }, { 'XDEL', pending_key, '1' } }) do
  if not redis.acl_check_cmd(unpack(write)) then
    return redis.error_reply('NOPERM this user has no right to ' .. write[1])
  end
end
redis.call('XLEN', pending_key)

local meta = redis.call('HMGET', meta_key, 'epoch', 'fence', 'run', 'starts_at', 'ends_at', 'per_user_limit', 'pending',
  'entry', 'last', 'marked', 'withheld_from', 'withheld_until', 'paused')
local epoch, fence, starts_at, ends_at = integer(meta[1]), integer(meta[2]), integer(meta[4]), integer(meta[5])
local limit, pending_orders, last, marked = integer(meta[6]), integer(meta[7]), integer(meta[9]), integer(meta[10])
local entry_ms, entry_sequence = string.match(meta[8] or '', '^(%d+)%-(%d+)$')
if not (epoch and fence and starts_at and ends_at and limit and pending_orders and last and marked and entry_ms) then
  return corrupt(meta_key .. ' lacks a field, or one is no integer')
end
local wanted = integer(ARGV[1])
if epoch ~= wanted then
  return redis.error_reply('GATEEPOCH ' .. meta[1])
end
if fence > epoch then
  return redis.error_reply('GATEEPOCH ' .. meta[2])
end
local run = ARGV[#ARGV]
if run ~= '' and run ~= meta[3] then
  return redis.error_reply('GATERUN this sale was filled in another run of the server')
end
local remaining = integer(redis.call('GET', stock_key))
if not remaining then
  return corrupt(stock_key .. ' is not a whole number of units')
end

local settled, is_pending = {}, {}
local first_claim = 3 + (integer(ARGV[2]) or #ARGV)
for at = 3, first_claim - 1 do
  if not string.find(ARGV[at] or '', '^%d+%-%d+$') then
    return corrupt('a settled id is not an entry id')
  end
  settled[#settled + 1] = ARGV[at]
  is_pending[ARGV[at]] = false
end
if first_claim > #ARGV or (#ARGV - first_claim) % 4 ~= 0 then
  return corrupt('the arguments of reserve are out of step')
end

-- A claim is where its four arguments begin. A table for each would be made and thrown away with every order.
local users = {}
for at = first_claim, #ARGV - 1, 4 do
  local quantity = integer(ARGV[at + 2])
  if not (quantity and quantity > 0 and integer(ARGV[at + 3])) then
    return corrupt('a claim has a bad quantity or time')
  end
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
-- The claims that this call reserves, by their users.
local reserved_for = {}
-- Units that came back while none were left are withheld until no gateway takes the sale for sold out any more. A clock that
-- was set back since then is before that time, and must not withhold them for as long as it was set back.
if now >= (integer(meta[11]) or 0) and now < (integer(meta[12]) or 0) then
  remaining = 0
end

local function say(code, ...)
  answer[#answer + 1] = code
  for at = 1, select('#', ...) do
    answer[#answer + 1] = (select(at, ...))
  end
end

for at = first_claim, #ARGV - 1, 4 do
  local order, user, quantity = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local holder, before = holders[user], reserved_for[user]
  if before then
    if ARGV[before] == order then
      answer[#answer + 1] = 0
    else
      say(1, ARGV[before], ARGV[before + 2], 0, ARGV[before + 3])
    end
  elseif holder and holder.order == order then
    holder.in_this_call = true
    answer[#answer + 1] = 0
  elseif holder then
    say(1, holder.order, holder.quantity, pending(holder), holder.accepted_at)
  elseif now >= ends_at then
    say(5)
  elseif now < starts_at then
    say(4)
  elseif meta[13] == '1' then
    say(6)
  elseif quantity > limit then
    say(3, limit)
  elseif quantity > remaining then
    say(2, remaining)
  else
    reserved_for[user] = at
    remaining = remaining - quantity
    deducted = deducted + quantity
    reserved[#reserved + 1] = at
    fields[#fields + 1] = order
    fields[#fields + 1] = user .. ':' .. ARGV[at + 2] .. ':' .. ARGV[at + 3]
    answer[#answer + 1] = 0
  end
end

-- Write. XADD comes first: should Redis refuse writes (no memory, a read-only replica), it refuses the first of them.

if #reserved > 0 then
  -- Time never goes back, also where the clock does: what is set aside after a marker was made must not seem older than it.
  local ms = math.max(now, entry_ms, marked)
  local sequence = #reserved
  if ms == tonumber(entry_ms) then
    sequence = sequence + (math.floor(entry_sequence / 512) + 1) * 512
  end
  local entry = redis.call('XADD', pending_key, string.format('%d-%d', ms, sequence), unpack(fields))
  redis.call('DECRBY', stock_key, deducted)
  local buyers = {}
  for _, at in ipairs(reserved) do
    buyers[#buyers + 1] = ARGV[at + 1]
    buyers[#buyers + 1] = ARGV[at] .. ':' .. ARGV[at + 2] .. ':' .. ARGV[at + 3] .. ':' .. entry
  end
  redis.call('HSET', buyers_key, unpack(buyers))
  answer[1] = entry
  pending_orders = pending_orders + #reserved
  last = math.max(last, ms)
end
local removed = 0
for _, id in ipairs(settled) do
  if redis.call('XDEL', pending_key, id) == 1 then
    local ms, sequence = string.match(id, '^(%d+)%-(%d+)$')
    removed = removed + 1
    pending_orders = math.max(0, pending_orders - sequence % 512)
    -- Published perhaps after that marker, so the marker says nothing about it.
    if tonumber(ms) <= marked then
      last = math.max(last, now, marked)
    end
  end
end
if #reserved > 0 then
  redis.call('HSET', meta_key, 'pending', pending_orders, 'last', last, 'entry', answer[1])
elseif removed > 0 then
  redis.call('HSET', meta_key, 'pending', pending_orders, 'last', last)
end
return answer
