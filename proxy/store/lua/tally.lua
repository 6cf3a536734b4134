-- What proxy/store/tally.py says, in one step. ARGV[3] is JSON: the holder, the time that is expected (-1: none), ids of
-- settled claims to forget, lists of lines (each line counter, ceiling, window, until), and what is asked: a kind (1
-- claim, 2 settle), an id, which list of lines, and of each an amount. Answer: the time, then for each claim whether it
-- was taken, levels, waits, resets; else 0.
--
-- Nothing is written before all is known: a script that fails half-way is not undone.
local asked = cjson.decode(ARGV[3])
local holder, expected, forgotten, lists, ops = asked[1], asked[2], asked[3], asked[4], asked[5]
local CLOCK, HOLDERS, MINE = P .. 'clock', P .. 'holders', P .. 'held:' .. holder
local DAY, HOUR = 86400000, 3600000

-- The time: the wall clock's, but it never steps.
local stood = redis.call('HMGET', CLOCK, 'last', 'shift')
local clock = wall()
local now = clock + tonumber(stood[2] or 0)
if expected >= 0 and math.abs(now - expected) > STEP then
  now = expected
end
now = math.max(now, tonumber(stood[1] or 0))

-- Counters: a hash of until when an amount counts (0: as long as it is held), and the amount.
local counters, order = {}, {}

local function counter(name)
  local one = counters[name]
  if not one then
    one = {key = P .. 'limit:' .. name, cells = {}, level = 0, gone = {}, dirty = {}, changed = false}
    local flat = redis.call('HGETALL', one.key)
    for i = 1, #flat, 2 do
      local till, amount = tonumber(flat[i]), tonumber(flat[i + 1])
      if till > 0 and till <= now then
        one.gone[#one.gone + 1] = flat[i]
      else
        one.cells[till] = amount
        one.level = one.level + amount
      end
    end
    counters[name] = one
    order[#order + 1] = one
  elseif one.over then
    -- What was taken a moment ago of a period that is over.
    for till, amount in pairs(one.cells) do
      if till > 0 and till <= now then
        one.cells[till] = nil
        one.level = one.level - amount
      end
    end
    one.over, one.last = false, nil
  end
  return one
end

local function add(one, till, amount)
  local old = one.cells[till] or 0
  local new = math.max(0, old + amount)
  one.cells[till] = new > 0 and new or nil
  one.level = one.level + (new - old) -- in this order: the sum of all three may be more than is exact
  one.dirty[till] = true
  one.changed = true
  one.last = nil
  one.over = one.over or till > 0 and till <= now
end

local function last(one)
  if not one.last then
    one.last = -1
    for till in pairs(one.cells) do
      one.last = math.max(one.last, till)
    end
  end
  return one.last
end

local function ends(window, till)
  if window > 0 then
    local piece = math.max(1, math.floor(window / PIECES))
    return now - now % piece + piece + window
  end
  return till > 0 and till + KEPT or 0
end

local function wait(one, amount, ceiling, window)
  local excess = one.level - ceiling + amount
  if excess <= 0 or amount == 0 then
    return 0
  end
  if window == 0 or amount > ceiling then
    return -1
  end
  local tills = {}
  for till in pairs(one.cells) do
    tills[#tills + 1] = till
  end
  table.sort(tills)
  for _, till in ipairs(tills) do
    excess = excess - one.cells[till]
    if excess <= 0 then
      return till - now
    end
  end
  return -1
end

local function reset(one, window)
  if last(one) < 0 then
    return 0
  end
  return window > 0 and one.last - now or -1
end

-- Claims by id: what was taken (counter, until when, how much; each line has its place), or '' once settled.
local claims, changed = {}, {}
local ids = {}
for _, op in ipairs(ops) do
  if op[2] ~= '' then
    ids[#ids + 1] = op[2]
  end
end
for i = 1, #ids, 1000 do
  local upto = math.min(i + 999, #ids)
  local found = redis.call('HMGET', MINE, unpack(ids, i, upto))
  for j = i, upto do
    claims[ids[j]] = found[j - i + 1]
  end
end

local function restore(took)
  local tills = {}
  for i = 1, #took, 3 do
    tills[took[i]] = took[i + 1]
    if took[i + 2] > 0 then
      add(counter(took[i]), took[i + 1], -took[i + 2])
    end
  end
  return tills
end

local function claim(op)
  local id, known, lines, amounts = op[2], claims[op[2]], lists[op[3]], op[4]
  local taken, answer, n = id ~= '', {1}, #lines
  local all = {}
  for i, line in ipairs(lines) do
    all[i] = counter(line[1])
    local late = wait(all[i], known and 0 or amounts[i], line[2], line[3])
    answer[1 + n + i] = late
    taken = taken and late == 0
  end
  if taken and not known then
    local took = {}
    for i, line in ipairs(lines) do
      local till = ends(line[3], line[4])
      if amounts[i] > 0 then
        add(all[i], till, amounts[i])
      end
      took[#took + 1] = line[1]
      took[#took + 1] = till
      took[#took + 1] = amounts[i]
    end
    claims[id] = cmsgpack.pack(took)
    changed[id] = true
  end
  for i, line in ipairs(lines) do
    answer[1 + i] = all[i].level
    answer[1 + 2 * n + i] = reset(all[i], line[3])
  end
  answer[1] = taken and 1 or 0
  return answer
end

local function settle(op)
  local id = op[2]
  if claims[id] == '' then
    return
  end
  local tills = claims[id] and restore(cmsgpack.unpack(claims[id])) or {}
  for i, line in ipairs(lists[op[3]]) do
    local till = tills[line[1]] or ends(line[3], line[4])
    if op[4][i] > 0 and till > now then
      add(counter(line[1]), till, op[4][i])
    end
  end
  if id ~= '' then
    claims[id] = ''
    changed[id] = true
  end
end

-- What those held who were not heard of; their settled claims are known for an hour more.
local unknown = not redis.call('ZSCORE', HOLDERS, holder)
local dead = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', HOLDERS, '-inf', now)) do
  if name ~= holder then
    local one = {name = name, key = P .. 'held:' .. name, ids = {}}
    local flat = redis.call('HGETALL', one.key)
    for i = 1, #flat, 2 do
      if flat[i + 1] ~= '' then
        restore(cmsgpack.unpack(flat[i + 1]))
        one.ids[#one.ids + 1] = flat[i]
      end
    end
    dead[#dead + 1] = one
  end
end

local answer = {NUMBER, now}
for i, op in ipairs(ops) do
  if op[1] == 1 then
    answer[2 + i] = claim(op)
  else
    settle(op)
    answer[2 + i] = 0
  end
end

redis.call('HSET', CLOCK, 'last', now, 'shift', now - clock)
redis.call('ZADD', HOLDERS, now + LEASE, holder)
for _, one in ipairs(order) do
  local set, gone = {}, one.gone
  for till in pairs(one.dirty) do
    if one.cells[till] then
      set[#set + 1] = till
      set[#set + 1] = one.cells[till]
    else
      gone[#gone + 1] = till
    end
  end
  call('HSET', one.key, set)
  call('HDEL', one.key, gone)
  if one.cells[0] then
    redis.call('PERSIST', one.key)
  elseif one.changed then
    -- A day more than anything of it counts: this goes by Redis's own clock, which may step.
    redis.call('PEXPIRE', one.key, math.max(0, last(one) - now) + DAY)
  end
end
local set = {}
for id in pairs(changed) do
  set[#set + 1] = id
  set[#set + 1] = claims[id]
end
call('HSET', MINE, set)
call('HDEL', MINE, forgotten)
if unknown then
  redis.call('PERSIST', MINE)
end
for _, one in ipairs(dead) do
  call('HDEL', one.key, one.ids)
  redis.call('PEXPIRE', one.key, HOUR)
  redis.call('ZREM', HOLDERS, one.name)
end
return answer
