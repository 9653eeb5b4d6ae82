-- Gives or refreshes the lease of a worker, by the rules of CapacityTable in seckill-core. All capacities are whole numbers.
--
-- KEYS  leases: a hash. A worker's field holds number, total, wants, share, used, until; `run` the server's run, `asked` when
--       somebody last asked, `learns` until when the leases are learnt
-- ARGV  worker, number, total, wants, has, the length of a lease in milliseconds, the run of the server
-- Answer: share, safe capacity, workers, whether it learns

local id, number, total, wants = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local has, length, run = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function digits(value)
  return string.format('%.0f', value)
end

local fields = {}
local rows = redis.call('HGETALL', KEYS[1])
for at = 1, #rows, 2 do
  fields[rows[at]] = rows[at + 1]
end
local asked, learns = tonumber(fields.asked or ''), tonumber(fields.learns or '0')
-- In another run, leases may be older than what workers were last told. Workers ask several times a second: after a longer silence
-- leases may have ended while nobody could be reached, and their workers go on at their safe capacity.
if fields.run ~= run or not asked or now < asked or now - asked > length / 2 then
  redis.call('UNLINK', KEYS[1])
  fields, learns = {}, now + length
end
local learning = now < learns

local workers, used, wanted, known = 1, 0, {}, nil
local lowest = total
for worker, text in pairs(fields) do
  if worker ~= 'run' and worker ~= 'asked' and worker ~= 'learns' then
    local lease = {}
    for word in string.gmatch(text, '%S+') do
      lease[#lease + 1] = tonumber(word)
    end
    if lease[6] <= now then
      redis.call('HDEL', KEYS[1], worker)
    elseif worker == id then
      known = lease
    else
      workers = workers + 1
      used = used + lease[5]
      lowest = math.min(lowest, lease[2])
      if lease[3] > 0 then
        wanted[#wanted + 1] = lease[3]
      end
    end
  end
end

local function fair_share()
  if wants == 0 then
    return 0
  end
  wanted[#wanted + 1] = wants
  table.sort(wanted)
  local left, asking = lowest, #wanted
  for at, want in ipairs(wanted) do
    local level = math.floor(left / (asking - at + 1))
    if want > level then
      return math.min(wants, level)
    end
    left = left - want
  end
  return wants + math.floor(left / asking)
end

local share
if known and known[1] >= number then
  -- It comes late, after a newer one.
  share = known[4]
else
  share = math.min(learning and has or fair_share(), math.max(0, lowest - used))
  local lease = { number, total, wants, share, math.max(share, has), now + length }
  for at, value in ipairs(lease) do
    lease[at] = digits(value)
  end
  redis.call('HSET', KEYS[1], 'run', run, 'asked', digits(now), 'learns', digits(learns), id, table.concat(lease, ' '))
  redis.call('PEXPIRE', KEYS[1], digits(length * 10))
end
return { digits(share), digits(math.min(share, math.floor(lowest / workers))), workers, learning and 1 or 0 }
