-- ARGV: space, the key to begin behind, how many. Answer: keys and values by turns.
local values, names, ends = space(ARGV[3])
local after, limit, now = ARGV[4], tonumber(ARGV[5]), wall()
local found = {}
local begin = after
while #found < 2 * limit do
  local keys = redis.call('ZRANGEBYLEX', names, '(' .. begin, '+', 'LIMIT', 0, math.min(1000, limit))
  if #keys == 0 then
    break
  end
  local all = redis.call('HMGET', values, unpack(keys))
  for i, key in ipairs(keys) do
    if all[i] and #found < 2 * limit and alive(ends, key, now) then
      found[#found + 1] = key
      found[#found + 1] = all[i]
    end
  end
  begin = keys[#keys]
end
return {NUMBER, after, found}
