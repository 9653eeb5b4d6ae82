-- Orders from one sale with wrk, each request with another buyer's token, and says how the answers divide.
--
--   seckill token --users 200000 > tokens.txt
--   wrk -t2 -c64 -d10s --latency -s loadtest/wrk/orders.lua http://127.0.0.1:8080 -- tokens.txt 1 2
--
-- After `--`: the file with one token a line (tokens.txt), the sale's id (1), and the number of threads, which must be
-- that of -t (2), for wrk does not tell a script. For several sales in turn, their ids with commas between: 1,2,3. With ANSWERS=off in the environment no answer is read by the script, which
-- makes wrk faster and leaves the table out.

-- wrk runs the script once for itself and once for each thread, in states that share nothing. `setup` runs in wrk's own
-- state and may only hand values over before the thread starts; `init`, `request` and `response` run in the thread's;
-- `done` runs in wrk's again, once the threads have ended.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
end

-- wrk would end at an error too, but calls it a panic.
local function give_up(reason)
  io.stderr:write("orders.lua: " .. reason .. "\n")
  os.exit(1)
end

local DEFAULTS = { tokens = "tokens.txt", sale = "1", threads = 2 }

-- A function that answers the next token at each call: every `step`th line of the file from line `first` on, so that the
-- threads' shares have no line in common; after the last the first again. It reads as it goes: wrk starts the first thread
-- before it calls `init` for the second and counts what the first has done meanwhile, so reading a long file in `init`
-- would make the rate look higher than it was.
local function reader(path, first, step)
  local file, reason = io.open(path, "r")
  if not file then
    give_up("cannot read the tokens: " .. reason .. "; make them with: seckill token --users 200000 > " .. path)
  end
  local skip, found = first - 1, false
  return function()
    while true do
      local line
      for _ = 0, skip do
        line = file:read("*l")
      end
      skip = step - 1
      if not line then
        if not found then
          give_up(path .. " has too few tokens: every thread needs one or more")
        end
        file:seek("set")
        skip, again = first - 1, true
      else
        local token = line:match("^%S+")
        if token then
          found = true
          return token
        end
      end
    end
  end
end

function init(args)
  local path, sale = args[1] or DEFAULTS.tokens, args[2] or DEFAULTS.sale
  local count = tonumber(args[3] or DEFAULTS.threads)
  if not count or number > count then
    give_up("wrk has more threads than the script was told of; after `--` give TOKENS SALE THREADS, THREADS as in -t")
  end
  local next_token = reader(path, number, count)
  -- `again`: the tokens have been used up, and buyers come a second time; `repeats`: requests of such buyers.
  answers, again, repeats = {}, false, 0
  -- The requests differ in one header only, so all else is put together once.
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer @"
  local parts = {}
  for id in sale:gmatch("[^,]+") do
    local whole = wrk.format("POST", "/api/v1/sales/" .. id .. "/orders", nil, '{"quantity":1}')
    local at = whole:find("@", whole:find("Bearer @", 1, true), true)
    parts[#parts + 1] = { before = whole:sub(1, at - 1), after = whole:sub(at + 1) }
  end
  local turn = 0
  next_request = function()
    local token = next_token()
    if again then
      repeats = repeats + 1
    end
    turn = turn % #parts + 1
    return parts[turn].before .. token .. parts[turn].after
  end
end

function request()
  return next_request()
end

-- The outcome in words: the status, and the last part of a problem's type, such as `409 sold-out`.
local function outcome(status, body)
  if status == 202 then
    return "202 accepted"
  elseif status == 200 then
    return "200 replayed"
  end
  local problem = body and body:match('"type"%s*:%s*"[^"]-([^"/]+)"')
  return status .. " " .. (problem or "unnamed")
end

if os.getenv("ANSWERS") ~= "off" then
  function response(status, _, body)
    local name = outcome(status, body)
    answers[name] = (answers[name] or 0) + 1
  end
end

-- Answers of all threads by outcome, the most frequent first, and the number of all of them.
local function gathered()
  local sums, names, all = {}, {}, 0
  for _, thread in ipairs(threads) do
    for name, count in pairs(thread:get("answers")) do
      if not sums[name] then
        names[#names + 1] = name
      end
      sums[name] = (sums[name] or 0) + count
      all = all + count
    end
  end
  table.sort(names, function(one, other) return sums[one] > sums[other] end)
  return names, sums, all
end

function done(summary, _, _)
  local names, sums, all = gathered()
  local seconds = summary.duration / 1e6
  if all > 0 then
    print(string.format("\n%-28s %10s %10s %8s", "answer", "requests", "a second", "share"))
    for _, name in ipairs(names) do
      local count = sums[name]
      print(string.format("%-28s %10d %10.0f %7.2f%%", name, count, count / seconds, count * 100 / all))
    end
  end
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write
  if broken + errors.timeout > 0 then
    print(string.format("no answer: %d broken connections, %d time-outs", broken, errors.timeout))
  end
  local repeats = 0 -- of all threads
  for _, thread in ipairs(threads) do
    repeats = repeats + thread:get("repeats")
  end
  if repeats > 0 then
    print(repeats .. " requests repeated a token, for there were fewer tokens than requests: make more tokens")
  end
end
