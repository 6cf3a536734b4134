-- ARGV: space, key, value, milliseconds to live or nothing, whether only where there is none. Answer: whether written.
local values, names, ends = space(ARGV[3])
local key, now = ARGV[4], wall()
if ARGV[7] == '1' and redis.call('HEXISTS', values, key) == 1 and alive(ends, key, now) then
  return {NUMBER, key, 0}
end
redis.call('HSET', values, key, ARGV[5])
redis.call('ZADD', names, 0, key)
if ARGV[6] == '' then
  redis.call('ZREM', ends, key)
else
  redis.call('ZADD', ends, now + tonumber(ARGV[6]), key)
end
sweep(values, names, ends, now)
return {NUMBER, key, 1}
