-- ARGV: space, key. Answer: the value, or nothing.
local values, _, ends = space(ARGV[3])
if not alive(ends, ARGV[4], wall()) then
  return {NUMBER, ARGV[4], false}
end
return {NUMBER, ARGV[4], redis.call('HGET', values, ARGV[4])}
