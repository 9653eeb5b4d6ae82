-- How far the queue has got, in the same time however much is pending.
--
-- KEYS  meta, progress, held
-- ARGV  how long a worker's report is believed in milliseconds
-- Answer: now, last set aside, newest marker made and come or '', oldest held or '', reconciled

local last = redis.call('HGET', KEYS[1], 'last')
if not last then
  return nil
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local oldest = ''
for _, report in ipairs(redis.call('HVALS', KEYS[3])) do
  local held, reported = string.match(report, '^(%d+):(%d+)$')
  if held and math.abs(now - reported) <= tonumber(ARGV[1]) and (oldest == '' or tonumber(held) < tonumber(oldest)) then
    oldest = held
  end
end
local progress = redis.call('HMGET', KEYS[2], 'made', 'came', 'reconciled')
return { string.format('%d', now), last, progress[1] or '', progress[2] or '', oldest, progress[3] or '0' }
