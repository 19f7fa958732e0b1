"""Lua scripts for Redis: each one atomic, on one key, in one round trip.

A record is a hash. Its fields: ``id`` (random; a record that takes another's place has another),
``state``, ``attempt``, ``holder``, ``holders``, ``fingerprint``, ``open`` (an attempt has not said
how it ended), ``lease`` and ``expires`` (milliseconds of Redis's clock), ``tombstone``
(milliseconds), ``response``, and ``method`` and ``path`` for people. Redis removes it after its
tombstone.

Two numbers fence it. ``holders`` counts those who have held the lease (``holder`` is the number of
the one who does), ``attempt`` those of them who have started: a retry that only finds out that it
may not run must not take the right to store from an attempt that was slow.

When Redis's memory is full, a claim is refused, and what a running attempt has to say is not: only
a script whose first write needs memory is stopped, and ``PEXPIREAT`` needs none
(https://redis.io/docs/latest/develop/programmability/eval-intro/).
"""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_READ = (
    _NOW
    + """
local id, state, attempt, fingerprint, response, holder, open, expires, lease, tombstone = unpack(
    redis.call('HMGET', KEYS[1], 'id', 'state', 'attempt', 'fingerprint', 'response', 'holder',
    'open', 'expires', 'lease', 'tombstone'))
local is_claimed = state == 'claimed'
local is_held = is_claimed and tonumber(lease) > now
"""
)

_KEEP = """
local function number(value) return string.format('%.0f', value) end
local function keep(lease, expires, tombstone)
    redis.call('PEXPIREAT', KEYS[1], number(math.max(lease, expires) + tombstone))
end
"""

# What redis._record() reads.
_REPLY = """
local is_expired = id and not is_held and tonumber(expires) <= now
local function record()
    return {id, state, attempt, fingerprint, response, holder, open, expires,
            is_held and 1 or 0, is_expired and 1 or 0}
end
"""

# id, lease, retention, tombstone, fingerprint, method, path
CLAIM = (
    _READ
    + _KEEP
    + _REPLY
    + """
local is_tombstone = is_expired and response and tonumber(expires) + tonumber(ARGV[4]) > now
if id and (not is_expired or is_tombstone) then return record() end
if id then redis.call('DEL', KEYS[1]) end
id, state, attempt, fingerprint, response = ARGV[1], 'claimed', '1', ARGV[5], false
holder, open, is_held, is_expired = '1', '1', true, false
lease, expires, tombstone = now + tonumber(ARGV[2]), number(now + tonumber(ARGV[3])), ARGV[4]
redis.call(
    'HSET', KEYS[1], 'id', id, 'state', state, 'attempt', attempt, 'open', open,
    'holders', '1', 'holder', holder, 'lease', number(lease), 'expires', expires,
    'tombstone', tombstone, 'fingerprint', fingerprint, 'method', ARGV[6], 'path', ARGV[7])
keep(lease, tonumber(expires), tonumber(tombstone))
return record()
"""
)
"""Return the record, created if there is none, or one that is past its tombstone."""

LOOK = _READ + _REPLY + "return id and record() or {}"
"""Return the record; nothing if there is none. Changes nothing."""

# id, lease
TAKE = (
    _READ
    + _KEEP
    + _REPLY
    + """
if id ~= ARGV[1] then return false end
if is_held then return {} end
if is_claimed then
    lease = now + tonumber(ARGV[2])
    holder = tostring(redis.call('HINCRBY', KEYS[1], 'holders', 1))
    redis.call('HSET', KEYS[1], 'lease', number(lease), 'holder', holder)
    keep(lease, tonumber(expires), tonumber(tombstone))
end
return record()
"""
)
"""Take over a lease that has lapsed, and return the record as it was, with its new holder; an empty
list if an attempt holds it, ``nil`` if it is gone."""

# id, attempt before, holder, lease
START = (
    _READ
    + _KEEP
    + """
if id ~= ARGV[1] or attempt ~= ARGV[2] or holder ~= ARGV[3] or not is_claimed then return 0 end
lease = now + tonumber(ARGV[4])
keep(lease, tonumber(expires), tonumber(tombstone))
redis.call('HSET', KEYS[1], 'lease', number(lease), 'open', '1')
return redis.call('HINCRBY', KEYS[1], 'attempt', 1)
"""
)
"""Start an attempt, under the next number; its predecessor can store nothing any more."""

# id, attempt, holder, lease
RENEW = (
    _READ
    + _KEEP
    + """
local is_ours = holder == ARGV[3] or attempt == ARGV[2] and not is_held
if id ~= ARGV[1] or not is_claimed or not is_ours then return 0 end
lease = now + tonumber(ARGV[4])
keep(lease, tonumber(expires), tonumber(tombstone))
redis.call('HSET', KEYS[1], 'lease', number(lease), 'holder', ARGV[3])
return 1
"""
)
"""Prolong the lease of its holder, or give it back to the attempt that had it, if it is free."""

# id, attempt, holder, response, retention
COMPLETE = (
    _READ
    + _KEEP
    + """
if id ~= ARGV[1] or attempt ~= ARGV[2] then return 0 end
if response == ARGV[4] then return 1 end
if not is_claimed then return 0 end
expires = now + tonumber(ARGV[5])
keep(0, expires, tonumber(tombstone))
redis.call(
    'HSET', KEYS[1], 'state', 'completed', 'lease', '0', 'open', '0', 'response', ARGV[4],
    'expires', number(expires))
return 1
"""
)
"""Store the response of the attempt that has this number. Sent twice, it counts once."""

# id, attempt
WITHDRAW = (
    _READ
    + """
if id ~= ARGV[1] or attempt ~= ARGV[2] or not is_claimed then return 0 end
return redis.call('DEL', KEYS[1])
"""
)
"""Remove the record of the attempt that has this number."""

# id, attempt, holder, open: 1, 0, or nothing to leave it
RELEASE = (
    _READ
    + _KEEP
    + """
if id ~= ARGV[1] or attempt ~= ARGV[2] or not is_claimed then return 0 end
keep(0, tonumber(expires), tonumber(tombstone))
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'open', ARGV[4]) end
if holder == ARGV[3] then redis.call('HSET', KEYS[1], 'lease', '0') end
return 1
"""
)
"""Say how the attempt that has this number ended, and let go of the lease if this holder has it."""

# milliseconds
AGE = (
    _READ
    + _KEEP
    + """
expires = tonumber(expires) - tonumber(ARGV[1])
redis.call('HSET', KEYS[1], 'expires', number(expires))
keep(tonumber(lease), expires, tonumber(tombstone))
"""
)
"""Let a record expire earlier. For tests."""

NOW = _NOW + "return now"
"""Return the time, by the clock of the server that has the key."""
