-- What wrk sends: BENCH_KEYS is "unique", "none", or one key for all.
local keys = os.getenv("BENCH_KEYS")
local body = '{"item": "a small server"}'
local headers = {
   ["Authorization"] = "Token " .. os.getenv("BENCH_TOKEN"),
   ["Content-Type"] = "application/json",
}
local number = 0

function init()
   math.randomseed(os.time() * 1000 + tonumber(os.getenv("BENCH_ROUND")))
   run = math.random(0, 0xffffff)
end

function request()
   number = number + 1
   if keys == "unique" then
      headers["Idempotency-Key"] = string.format("%08x-0000-4000-8000-%012x", run, number)
   elseif keys ~= "none" then
      headers["Idempotency-Key"] = keys
   end
   return wrk.format("POST", nil, headers, body)
end

-- RESULT requests microseconds failures, and each latency in microseconds with its number.
function done(summary, latency)
   local failed = summary.errors.status + summary.errors.read + summary.errors.timeout
   io.write(string.format("RESULT %d %d %d", summary.requests, summary.duration, failed))
   for index = 1, #latency do
      local value, count = latency(index)
      io.write(string.format(" %d:%d", value, count))
   end
   io.write("\n")
end
