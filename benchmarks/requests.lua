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

function done(summary, latency)
   local failed = summary.errors.status + summary.errors.read + summary.errors.timeout
   io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration, failed,
      latency:percentile(50), latency:percentile(99)))
end
