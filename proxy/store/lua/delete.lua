-- ARGV: space, key. Answer: whether there was one.
local values, names, ends = space(ARGV[3])
local key, now = ARGV[4], wall()
local there = alive(ends, key, now)
local gone = redis.call('HDEL', values, key)
if gone == 1 then
  redis.call('ZREM', names, key)
  redis.call('ZREM', ends, key)
end
sweep(values, names, ends, now)
return {NUMBER, key, there and gone or 0}
