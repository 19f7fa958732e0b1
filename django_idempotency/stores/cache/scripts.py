"""What Redis does with a record, as scripts: each one atomic, one key, one round trip.

A record is a hash. Its fields: ``id`` (random; a record that takes another's place has another),
``state``, ``attempt``, ``holder``, ``holders``, ``fingerprint``, ``open`` (an attempt has not said
how it ended), ``lease`` and ``expires`` (milliseconds of Redis's clock), ``tombstone``
(milliseconds), ``response``, and ``method`` and ``path`` for people. Redis removes it when nobody
can want it any more.

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

_KEEP = """
local function keep(lease, expires, tombstone)
    redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.max(lease, expires) + tombstone))
end
"""

_OURS = """
local found = redis.call(
    'HMGET', KEYS[1],
    'id', 'attempt', 'state', 'expires', 'tombstone', 'response', 'lease', 'open', 'holder')
local is_ours = found[1] == ARGV[1] and found[2] == ARGV[2]
local is_claimed = found[3] == 'claimed'
local is_held_by_us = found[9] == ARGV[3]
"""

# id, lease, retention, tombstone, fingerprint, method, path
CLAIM = (
    _NOW
    + _KEEP
    + """
local found = redis.call(
    'HMGET', KEYS[1],
    'id', 'state', 'attempt', 'fingerprint', 'lease', 'expires', 'response')
local lease, retention, tombstone = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if found[1] then
    local is_held = found[2] == 'claimed' and tonumber(found[5]) > now
    local is_expired = not is_held and tonumber(found[6]) <= now
    local is_tombstone = is_expired and tonumber(found[6]) + tombstone > now
    if not is_expired or is_tombstone and found[7] then
        return {found[1], found[2], found[3], found[4], found[7],
                is_held and 1 or 0, is_expired and 1 or 0, is_tombstone and 1 or 0}
    end
end
if found[1] then redis.call('DEL', KEYS[1]) end
redis.call(
    'HSET', KEYS[1], 'id', ARGV[1], 'state', 'claimed', 'attempt', '1', 'open', '1',
    'holders', '1', 'holder', '1',
    'lease', string.format('%.0f', now + lease), 'expires', string.format('%.0f', now + retention),
    'tombstone', ARGV[4], 'fingerprint', ARGV[5], 'method', ARGV[6], 'path', ARGV[7])
keep(now + lease, now + retention, tombstone)
return {ARGV[1], 'claimed', '1', ARGV[5], false, 1, 0, 0}
"""
)
"""Return the record, created if there is none, or an expired one."""

LOOK = (
    _NOW
    + """
local found = redis.call(
    'HMGET', KEYS[1],
    'id', 'state', 'attempt', 'fingerprint', 'lease', 'expires', 'response', 'open')
if not found[1] then return {} end
local is_held = found[2] == 'claimed' and tonumber(found[5]) > now
local is_expired = not is_held and tonumber(found[6]) <= now
return {found[1], found[2], found[3], found[4], found[7],
        is_held and 1 or 0, is_expired and 1 or 0, found[8], found[6]}
"""
)
"""Return the record as CLAIM does, whether an attempt has not said how it ended, and when it
expires; nothing if there is none. Changes nothing."""

# id, lease
TAKE = (
    _NOW
    + _KEEP
    + _OURS
    + """
if found[1] ~= ARGV[1] or is_claimed and tonumber(found[7]) > now then
    return {false, false, false, false, false}
end
if is_claimed then
    local lease = now + tonumber(ARGV[2])
    found[9] = redis.call('HINCRBY', KEYS[1], 'holders', 1)
    redis.call('HSET', KEYS[1], 'lease', string.format('%.0f', lease), 'holder', found[9])
    keep(lease, tonumber(found[4]), tonumber(found[5]))
end
return {found[3], found[2], found[9], found[8], found[6]}
"""
)
"""Take a lease over that nobody holds. Return state, the number of the attempt before, the holder's
number, whether that attempt had not said how it ended, and the response; nothing if somebody holds
it."""

# id, attempt before, holder, lease
START = (
    _NOW
    + _KEEP
    + _OURS
    + """
if not (is_ours and is_claimed and is_held_by_us) then return 0 end
local lease = now + tonumber(ARGV[4])
keep(lease, tonumber(found[4]), tonumber(found[5]))
redis.call('HSET', KEYS[1], 'lease', string.format('%.0f', lease), 'open', '1')
return redis.call('HINCRBY', KEYS[1], 'attempt', 1)
"""
)
"""Start an attempt, under the next number; its predecessor can store nothing any more."""

# id, attempt, holder, lease
RENEW = (
    _NOW
    + _KEEP
    + _OURS
    + """
local is_free = is_ours and tonumber(found[7]) <= now
if found[1] ~= ARGV[1] or not is_claimed or not (is_held_by_us or is_free) then return 0 end
local lease = now + tonumber(ARGV[4])
keep(lease, tonumber(found[4]), tonumber(found[5]))
redis.call('HSET', KEYS[1], 'lease', string.format('%.0f', lease), 'holder', ARGV[3])
return 1
"""
)
"""Prolong the lease of its holder, or give it back to the attempt that had it, if it is free."""

# id, attempt, response, retention
COMPLETE = (
    _NOW
    + _KEEP
    + _OURS
    + """
if is_ours and found[6] == ARGV[3] then return 1 end
if not (is_ours and is_claimed) then return 0 end
local expires = now + tonumber(ARGV[4])
keep(0, expires, tonumber(found[5]))
redis.call(
    'HSET', KEYS[1], 'state', 'completed', 'lease', '0', 'open', '0', 'response', ARGV[3],
    'expires', string.format('%.0f', expires))
return 1
"""
)
"""Store the response of the attempt that has this number. Sent twice, it counts once."""

# id, attempt, holder, open: 1, 0, or nothing to leave it
RELEASE = (
    _KEEP
    + _OURS
    + """
if not (is_ours and is_claimed) then return 0 end
keep(0, tonumber(found[4]), tonumber(found[5]))
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'open', ARGV[4]) end
if is_held_by_us then redis.call('HSET', KEYS[1], 'lease', '0') end
return 1
"""
)
"""Say how the attempt that has this number ended, and let go of the lease if this holder has it."""

# milliseconds
AGE = (
    _KEEP
    + """
local found = redis.call('HMGET', KEYS[1], 'lease', 'expires', 'tombstone')
local expires = tonumber(found[2]) - tonumber(ARGV[1])
redis.call('HSET', KEYS[1], 'expires', string.format('%.0f', expires))
keep(tonumber(found[1]), expires, tonumber(found[3]))
return 1
"""
)
"""Let a record expire earlier, whoever holds it. For tests."""
