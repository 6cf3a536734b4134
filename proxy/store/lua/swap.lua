-- ARGV: space, key, the old value, the new one. Answer: whether it was written.
local values, _, ends = space(ARGV[3])
local key = ARGV[4]
if redis.call('HGET', values, key) ~= ARGV[5] or not alive(ends, key, wall()) then
  return {NUMBER, key, 0}
end
redis.call('HSET', values, key, ARGV[6])
return {NUMBER, key, 1}
