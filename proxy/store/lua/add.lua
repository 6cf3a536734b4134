-- ARGV: for each step counter, amount, ceiling or nothing, milliseconds to live or nothing, whether they begin anew.
-- Answer: the first step that was refused or nothing, then each counter's value.
local values, ends, now = P .. 'counters', P .. 'counters-end', wall()
local standing, before, refused = {}, {}, 0
local steps = (#ARGV - 2) / 5
for i = 0, steps - 1 do
  local name = ARGV[3 + 5 * i]
  if not standing[name] then
    local value = redis.call('HGET', values, name)
    local till = redis.call('ZSCORE', ends, name)
    if value and (not till or tonumber(till) > now) then
      standing[name] = {tonumber(value), till and tonumber(till), false}
    else
      standing[name] = {0, false, true}
    end
    before[name] = standing[name][1]
  end
end
for i = 0, steps - 1 do
  local at = 3 + 5 * i
  local one, amount = standing[ARGV[at]], tonumber(ARGV[at + 1])
  local grown = math.max(0, one[1] + amount)
  if grown > 9007199254740991 then
    return redis.error_reply('ERR counter out of range')
  end
  if ARGV[at + 2] ~= '' and amount > 0 and grown > tonumber(ARGV[at + 2]) then
    refused = i + 1
    break
  end
  if one[3] or ARGV[at + 4] == '1' then
    one[2] = ARGV[at + 3] ~= '' and now + tonumber(ARGV[at + 3])
    one[3] = false
  end
  one[1] = grown
end
local answer = {NUMBER, refused}
for i = 0, steps - 1 do
  local name = ARGV[3 + 5 * i]
  answer[#answer + 1] = refused > 0 and before[name] or standing[name][1]
end
if refused == 0 then
  for name, one in pairs(standing) do
    redis.call('HSET', values, name, one[1])
    if one[2] then
      redis.call('ZADD', ends, one[2], name)
    else
      redis.call('ZREM', ends, name)
    end
  end
  sweep(values, false, ends, now)
end
return answer
