-- In front of every script. KEYS[1] is what all keys begin with; its braces keep them on one shard, so that a script
-- may name the others itself. ARGV[1] comes back with the answer, which shows whose it is; ARGV[2] is the time in
-- milliseconds where a test turns it, else the server's own counts.
local P, NUMBER = KEYS[1], tonumber(ARGV[1])

local function wall()
  if ARGV[2] ~= '' then
    return tonumber(ARGV[2])
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- A call takes some thousand arguments at the most. The number is even: fields stay with their values.
local function call(command, key, list)
  for i = 1, #list, 1000 do
    redis.call(command, key, unpack(list, i, math.min(i + 999, #list)))
  end
end

-- Records of a space: a hash of values, a sorted set of names, a sorted set of the ends of those that end.
local function space(name)
  return P .. 'records:' .. name, P .. 'names:' .. name, P .. 'ends:' .. name
end

local function alive(ends, key, now)
  local till = redis.call('ZSCORE', ends, key)
  return not till or tonumber(till) > now
end

local function sweep(values, names, ends, now)
  local over = redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 50)
  if #over > 0 then
    redis.call('HDEL', values, unpack(over))
    redis.call('ZREM', ends, unpack(over))
    if names then
      redis.call('ZREM', names, unpack(over))
    end
  end
end
