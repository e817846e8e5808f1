-- The mailboxes all nodes share: each operation is one run of this script, so it is atomic.
--
-- ARGV[1] is the operation, ARGV[2] the time in seconds; what follows is named at each. An answer is {'ok', ...}, or
-- {'no', reason} when nothing has changed. Names hold no space, so a space joins them. All keys are made here and not
-- declared: one Redis, with replicas if need be, but no cluster.
--
--   midair:idle                  when each mailbox was last used; its members are all there are
--   midair:owned                 how many mailboxes each owner has
--   midair:opened DAY            how many each has opened on a day
--   midair:stored                bytes of all messages
--   midair:box APP BOX           owner, plate, bytes, sides, and for each side "side NAME" = "0" once it has closed,
--                                else "1 NODE" with the node that listens for it, if one does
--   midair:messages APP BOX      the messages, in order
--   midair:plate APP NUMBER      box, claims, and for each side "claim NAME" = "1", or "0" when it has released
--   midair:waiting APP           numbers at which one side waits, scored by their length
--   midair:taken APP             a bit for each number below 1000
--   midair:resting APP           numbers below 1000 that are not handed out, and until when

local call = redis.call
local operation, now = ARGV[1], tonumber(ARGV[2])
local IDLE, OWNED, STORED = 'midair:idle', 'midair:owned', 'midair:stored'
local REST_AT_MOST = 172800 -- seconds; longer than any mailbox lives

local function box_key(app, box) return 'midair:box ' .. app .. ' ' .. box end
local function messages_key(app, box) return 'midair:messages ' .. app .. ' ' .. box end
local function plate_key(app, number) return 'midair:plate ' .. app .. ' ' .. number end
local function waiting_key(app) return 'midair:waiting ' .. app end
local function taken_key(app) return 'midair:taken ' .. app end
local function resting_key(app) return 'midair:resting ' .. app end
local function is_short(number) return #number < 4 and number:sub(1, 1) ~= '0' end
local function use(app, box) call('ZADD', IDLE, now, app .. ' ' .. box) end

local function rest(app, number, till)
  if is_short(number) then
    call('ZADD', resting_key(app), till, number)
    -- Who makes up applications all day must not fill Redis with what rests in them.
    local endless = till == '+inf' or call('ZCOUNT', resting_key(app), '+inf', '+inf') > 0
    call('EXPIRE', resting_key(app), endless and REST_AT_MOST or math.ceil(till - now))
  end
end

local function drop_plate(app, number)
  call('DEL', plate_key(app, number))
  call('ZREM', waiting_key(app), number)
  if is_short(number) then
    call('SETBIT', taken_key(app), number, 0)
    if call('BITCOUNT', taken_key(app)) == 0 then call('DEL', taken_key(app)) end
  end
end

local function new_box(app, box, owner, most, most_of_owner, most_of_day)
  if call('ZCARD', IDLE) >= tonumber(most) then return 'mailboxes' end
  if tonumber(call('HGET', OWNED, owner) or '0') >= tonumber(most_of_owner) then return 'mailboxes-per-address' end
  local opened = 'midair:opened ' .. math.floor(now / 86400)
  if tonumber(call('HGET', opened, owner) or '0') >= tonumber(most_of_day) then return 'mailboxes-per-day' end
  call('HINCRBY', opened, owner, 1)
  call('EXPIRE', opened, 172800)
  call('HINCRBY', OWNED, owner, 1)
  call('HSET', box_key(app, box), 'owner', owner, 'bytes', 0, 'sides', 0)
end

-- A place in the mailbox for a side; node is '' when nobody listens.
local function enter(app, box, side, node)
  local key = box_key(app, box)
  local held = call('HGET', key, 'side ' .. side)
  if not held then
    if tonumber(call('HGET', key, 'sides')) >= 2 then return 'crowded' end
    call('HINCRBY', key, 'sides', 1)
  end
  if node ~= '' or not held or held == '0' then call('HSET', key, 'side ' .. side, '1 ' .. node) end
  use(app, box)
end

local function forget(app, box, rest_seconds)
  local key = box_key(app, box)
  local fields = call('HMGET', key, 'owner', 'plate', 'bytes')
  call('DEL', key, messages_key(app, box))
  call('ZREM', IDLE, app .. ' ' .. box)
  if not fields[1] then return end
  call('DECRBY', STORED, fields[3])
  if call('HINCRBY', OWNED, fields[1], -1) <= 0 then call('HDEL', OWNED, fields[1]) end
  if fields[2] then
    if call('HGET', plate_key(app, fields[2]), 'box') == box then drop_plate(app, fields[2]) end
    rest(app, fields[2], now + rest_seconds)
  end
end

local function any_side_open(app, box)
  local fields = call('HGETALL', box_key(app, box))
  for i = 1, #fields, 2 do
    if fields[i]:sub(1, 5) == 'side ' and fields[i + 1] ~= '0' then return true end
  end
  return false
end

-- app, number, side, owner, fresh (a name for a new mailbox), most, most_of_owner, most_of_day
local function claim(app, number, side, owner, fresh, most, most_of_owner, most_of_day)
  local key = plate_key(app, number)
  local box = call('HGET', key, 'box')
  if not box then
    local refusal = new_box(app, fresh, owner, most, most_of_owner, most_of_day)
    if refusal then return {'no', refusal} end
    box = fresh
    call('HSET', box_key(app, box), 'plate', number)
    call('HSET', key, 'box', box, 'claims', 0)
    if is_short(number) then call('SETBIT', taken_key(app), number, 1) end
  end
  local before = call('HGET', key, 'claim ' .. side)
  if before == '0' then return {'no', 'reclaimed'} end
  local refusal = enter(app, box, side, '') -- who has claimed has opened, so this also keeps the third side out
  if refusal then return {'no', refusal} end
  if before then return {'ok', box, 0} end
  call('HSET', key, 'claim ' .. side, '1')
  local claims = call('HINCRBY', key, 'claims', 1)
  if claims == 1 then
    call('ZADD', waiting_key(app), #number, number)
  else
    call('ZREM', waiting_key(app), number)
  end
  return {'ok', box, claims == 2 and 1 or 0}
end

-- The free numbers of so many digits; those that rest are left out when they are given.
local function free_of(taken, resting, digits)
  local found = {}
  for number = digits == 1 and 1 or 10 ^ (digits - 1), 10 ^ digits - 1 do
    local byte = taken:byte(math.floor(number / 8) + 1) or 0
    local bit = math.floor(byte / 2 ^ (7 - number % 8)) % 2
    if bit == 0 and not resting[number] then found[#found + 1] = number end
  end
  return found
end

-- chance: a large random number; long_start, long_step: where long numbers are tried, which nobody could list.
local function free_number(app, chance, long_start, long_step)
  if call('BITCOUNT', taken_key(app)) < 999 then
    local taken = call('GET', taken_key(app)) or ''
    local resting = {}
    for _, number in ipairs(call('ZRANGEBYSCORE', resting_key(app), '(' .. ARGV[2], '+inf')) do
      resting[tonumber(number)] = true
    end
    for _, left_out in ipairs({resting, {}}) do
      for digits = 1, 3 do
        local found = free_of(taken, left_out, digits)
        if #found > 0 then return string.format('%d', found[chance % #found + 1]) end
      end
    end
  end
  for attempt = 0, 99 do
    local number = string.format('%d', 1000 + (long_start + attempt * long_step) % 999000)
    if call('EXISTS', plate_key(app, number)) == 0 then return number end
  end
end

local operations = {}

function operations.claim() return claim(unpack(ARGV, 3)) end

-- app, side, owner, fresh, most, most_of_owner, most_of_day, chance, long_start, long_step
function operations.allocate()
  local app, side, owner, fresh, most, most_of_owner, most_of_day = unpack(ARGV, 3, 9)
  local number = free_number(app, tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]))
  if not number then return {'no', 'nameplates-full'} end
  local answer = claim(app, number, side, owner, fresh, most, most_of_owner, most_of_day)
  if answer[1] == 'ok' then answer[2] = number end
  return answer
end

-- app, number, side
function operations.release()
  local app, number, side = unpack(ARGV, 3)
  local key = plate_key(app, number)
  if not call('HGET', key, 'claim ' .. side) then return {'ok'} end
  call('HSET', key, 'claim ' .. side, '0')
  use(app, call('HGET', key, 'box'))
  local fields = call('HGETALL', key)
  for i = 1, #fields, 2 do
    if fields[i]:sub(1, 6) == 'claim ' and fields[i + 1] == '1' then return {'ok'} end
  end
  drop_plate(app, number)
  rest(app, number, '+inf') -- until its mailbox goes
  return {'ok'}
end

-- app, box, side, owner, node, most, most_of_owner, most_of_day
function operations.open()
  local app, box, side, owner, node, most, most_of_owner, most_of_day = unpack(ARGV, 3)
  if call('EXISTS', box_key(app, box)) == 0 then
    local refusal = new_box(app, box, owner, most, most_of_owner, most_of_day)
    if refusal then return {'no', refusal} end
  end
  local refusal = enter(app, box, side, node)
  if refusal then return {'no', refusal} end
  return {'ok', call('LRANGE', messages_key(app, box), 0, -1)}
end

-- app, box, node, message, size, most_messages, most_stored
function operations.add()
  local app, box, node, message, size, most_messages, most_stored = unpack(ARGV, 3)
  local fields = call('HGETALL', box_key(app, box))
  if #fields == 0 then return {'no', 'gone'} end
  local index = call('LLEN', messages_key(app, box))
  if index >= tonumber(most_messages) then return {'no', 'mailbox-full'} end
  if tonumber(call('GET', STORED) or '0') + tonumber(size) > tonumber(most_stored) then return {'no', 'store-full'} end
  call('RPUSH', messages_key(app, box), message)
  call('HINCRBY', box_key(app, box), 'bytes', size)
  call('INCRBY', STORED, size)
  use(app, box)
  local told = {[node] = true, [''] = true}
  for i = 1, #fields, 2 do
    local listening = fields[i]:sub(1, 5) == 'side ' and fields[i + 1]:sub(3) or ''
    if not told[listening] then
      told[listening] = true
      call('PUBLISH', 'midair:node ' .. listening, index .. ' ' .. app .. ' ' .. box .. ' ' .. message)
    end
  end
  return {'ok', index}
end

-- app, box, start
function operations.read()
  return {'ok', call('LRANGE', messages_key(ARGV[3], ARGV[4]), ARGV[5], -1)}
end

-- app, box, side, rest_seconds
function operations.close()
  local app, box, side, rest_seconds = unpack(ARGV, 3)
  local key = box_key(app, box)
  if call('HEXISTS', key, 'side ' .. side) == 0 then return {'ok'} end
  call('HSET', key, 'side ' .. side, '0')
  use(app, box)
  if not any_side_open(app, box) then forget(app, box, tonumber(rest_seconds)) end
  return {'ok'}
end

-- app
function operations.waiting()
  return {'ok', call('ZRANGE', waiting_key(ARGV[3]), 0, 999)}
end

-- "APP BOX" any number of times
function operations.touch()
  for i = 3, #ARGV do call('ZADD', IDLE, 'XX', now, ARGV[i]) end
  return {'ok'}
end

-- oldest, most, rest_seconds
function operations.prune()
  local idle = call('ZRANGEBYSCORE', IDLE, '-inf', '(' .. ARGV[3], 'LIMIT', 0, ARGV[4])
  for _, member in ipairs(idle) do
    local app, box = member:match('^(%S+) (%S+)$')
    forget(app, box, tonumber(ARGV[5]))
  end
  return {'ok', #idle}
end

function operations.count() return {'ok', call('ZCARD', IDLE)} end

return operations[operation]()
