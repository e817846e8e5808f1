-- Where relay legs wait, what was relayed, and which nodes there are. ARGV[1] is the operation; keys are made here, as in mailboxes.lua.
--
--   midair:leg HASH     "SIDE NODE" of the leg that waits under a token with this hash; lapses by itself
--   midair:nodes        "NODE ADDRESS" of each node, scored by when it was last heard of
--   midair:key          what only the nodes have
--   midair:spent DAY    bytes relayed for each owner

local call = redis.call
local operations = {}

-- now, oldest, "NODE ADDRESS", key (a new one, for when there is none)
function operations.announce()
  call('ZADD', 'midair:nodes', ARGV[2], ARGV[4])
  call('ZREMRANGEBYSCORE', 'midair:nodes', '-inf', '(' .. ARGV[3])
  call('SETNX', 'midair:key', ARGV[5])
  return {call('GET', 'midair:key'), call('ZRANGE', 'midair:nodes', 0, -1)}
end

-- day, then an owner and the bytes it has spent on that day, any number of times. Answers what all have spent.
function operations.spend()
  local key = 'midair:spent ' .. ARGV[2]
  local totals = {}
  for i = 3, #ARGV, 2 do totals[#totals + 1] = call('HINCRBY', key, ARGV[i], ARGV[i + 1]) end
  call('EXPIRE', key, 172800)
  return totals
end

-- hash, side, node, seconds. Answers the node that has the other side, at most once, else nothing.
function operations.arrive()
  local key, side, node, seconds = 'midair:leg ' .. ARGV[2], ARGV[3], ARGV[4], ARGV[5]
  local waiting = call('GET', key)
  if waiting then
    local waiting_side, waiting_node = waiting:match('^(%S+) (%S+)$')
    if waiting_side ~= side and waiting_node ~= node then
      call('DEL', key)
      return {waiting_node}
    end
  end
  call('SET', key, side .. ' ' .. node, 'EX', seconds)
  return {}
end

return operations[ARGV[1]]()
