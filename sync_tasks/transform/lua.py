"""The Lua that runs around a script: what it may use, how its calls are bounded, how results come back."""

from __future__ import annotations

STEPS = 200
"""Instructions after which the clock is looked at."""

HOST = rb"""
local clock, limit, steps = ...
local load, sethook, getinfo, error, type, tostring = load, debug.sethook, debug.getinfo, error, type, tostring
local format, mathtype, unpack = string.format, math.type, table.unpack
local getupvalue, setupvalue, setmetatable, rawget = debug.getupvalue, debug.setupvalue, setmetatable, rawget
local sub, byte, huge = string.sub, string.byte, math.huge
local begun, budget = nil, limit

local function hook()
  local now = clock()
  if not begun then begun = now return end
  if now - begun < budget then return end
  sethook(hook, "", 1)  -- from here on each instruction fails: no pcall goes on
  local line = 0
  for level = 2, 100 do
    local at = getinfo(level, "Sl")
    if not at then break end
    if at.short_src == "transform" then line = at.currentline break end
  end
  error(format("transform:%d: it ran for longer than %d ms", line, budget * 1000 // 1), 0)
end

-- What C functions do no hook interrupts: a pattern's work is bounded by the subject's length instead.
local weights, known = {}, 0
local function weigh(p)
  local i, n, repeats, options, last = 1, #p, 0, 0, 0
  local anchored = sub(p, 1, 1) == "^"
  if anchored then i = 2 end
  while i <= n do
    local c = sub(p, i, i)
    if c == "(" or c == ")" then
      i = i + 1
    else
      last = 0
      if c == "%" then
        local d = sub(p, i + 1, i + 1)
        if d == "b" then repeats = repeats + 1 i = i + 4 else i = i + 2 end
      elseif c == "[" then
        i = i + 1
        if sub(p, i, i) == "^" then i = i + 1 end
        repeat
          if sub(p, i, i) == "%" then i = i + 1 end
          i = i + 1
        until i > n or sub(p, i, i) == "]"
        i = i + 1
      else
        i = i + 1
      end
      local s = sub(p, i, i)
      if s == "*" or s == "+" or s == "-" then repeats = repeats + 1 last = 1 i = i + 1
      elseif s == "?" then options = options + 1 i = i + 1 end
    end
  end
  known = known + 1
  if known > 500 then weights, known = {}, 0 end
  local w = { repeats - last + (anchored and 0 or 1), options }
  weights[p] = w
  return w
end
local function bounded(f, plain_at)
  return function(s, p, ...)
    if type(p) == "number" then p = tostring(p) end
    if type(s) == "number" then s = tostring(s) end
    if type(s) == "string" and type(p) == "string" and not (plain_at and select(plain_at, ...)) then
      local w = weights[p] or weigh(p)
      if (#s + 1) ^ w[1] * 2 ^ w[2] > 1e8 then
        error(format("a pattern with so many repetitions may take too long on %d bytes", #s), 2)
      end
    end
    return f(s, p, ...)
  end
end

-- Not among them: what loads code; what would run without the hook (coroutines; xpcall's handler, where the hook itself
-- has raised; finalizers, and so metatables, which also have C functions count to any length); what is not the same
-- each time.
local function pick(from, names)
  local found = {}
  for name in names:gmatch("%w+") do found[name] = from[name] end
  return found
end

local env = pick(_G, "assert error ipairs next pairs pcall select tonumber tostring type rawequal rawlen rawget rawset")
env._G, env._VERSION = env, _VERSION
env.string = pick(string, "byte char format len lower reverse sub upper pack packsize unpack")
env.table = pick(table, "concat insert remove pack unpack sort")
env.math = pick(math, "abs acos asin atan ceil cos deg exp floor fmod huge log max maxinteger min mininteger modf pi"
  .. " rad sin sqrt tan tointeger type ult")
env.utf8 = pick(utf8, "char charpattern codepoint codes len offset")
env.string.find = bounded(string.find, 2)
env.string.match = bounded(string.match)
env.string.gmatch = bounded(string.gmatch)
env.string.gsub = bounded(string.gsub)
local rep = string.rep
env.string.rep = function(s, n, sep)
  if #tostring(s) + #tostring(sep or "") == 0 then return "" end  -- else it would count to n
  return rep(s, n, sep)
end

-- C functions that call back: deep inside each other they leave the hook no room on C's stack.
local depth, gsub, sort, pcall = 0, env.string.gsub, table.sort, pcall
local function enter()
  if depth >= 50 then error("too many pcall, gsub or sort inside each other", 3) end
  depth = depth + 1
  return depth - 1
end
local function leave(before, ...)
  depth = before
  return ...
end
env.pcall = function(...)
  return leave(enter(), pcall(...))
end
env.string.gsub = function(s, p, by, ...)
  if type(by) ~= "function" then return gsub(s, p, by, ...) end
  return leave(enter(), gsub(s, p, by, ...))
end
env.table.sort = function(...)
  return leave(enter(), sort(...))
end
local strings = getmetatable("")
strings.__index, strings.__metatable = env.string, false

local function text(value)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "number" then
    return mathtype(value) == "integer" and format("%d", value) or format("%.17g", value)
  end
  error("transform returned a " .. kind .. " among the arguments of a command", 0)
end

-- How many commands; of each its database or -1, how many arguments, and these.
local function flat(given)
  if given == nil then return end
  if given == false then return false end
  if type(given) ~= "table" then error("transform returned a " .. type(given) .. ", not a command", 0) end
  local out, at = { 0 }, 1
  local function add(one)
    local db = one.db
    if db == nil then db = -1
    elseif mathtype(db) ~= "integer" or db < 0 or db > 255 then
      error("transform returned a db that is none: 0 to 255", 0)
    end
    if #one == 0 then error("transform returned an empty command", 0) end
    out[at + 1], out[at + 2] = db, #one
    for i = 1, #one do out[at + 2 + i] = text(one[i]) end
    at = at + 2 + #one
    out[1] = out[1] + 1
  end
  if #given > 0 and type(given[1]) ~= "table" then
    add(given)
  else
    if given.db ~= nil then error("transform returned a db beside a list of commands: give it to each of them", 0) end
    for i = 1, #given do
      if type(given[i]) ~= "table" then error("transform returned a " .. type(given[i]) .. " among commands", 0) end
      add(given[i])
    end
  end
  if at > 200 then return out end
  return unpack(out, 1, at)
end

-- The hook counts on from one call to the next: it may look at the clock before that has begun.
local function ended(...)
  begun = nil
  return ...
end
local function begin(argv)
  begun, depth, budget = nil, 0, limit * math.max(1, #argv / 1000)
  sethook(hook, "", steps)
end

local function call(f, db, argv, ...)
  argv = argv or { ... }
  begin(argv)
  return ended(flat(f(db, argv)))
end

-- `n` keys: their positions, their slots, then the command.
local function call_with_about(f, db, snapshot, group, kind, n, argv, ...)
  begun = nil
  local given = { ... }
  local keys, positions, slots = {}, {}, {}
  if not argv then
    argv = {}
    for i = 2 * n + 1, #given do argv[i - 2 * n] = given[i] end
  end
  for i = 1, n do
    local at = given[i]
    positions[i], slots[i], keys[i] = at, given[n + i], argv[at]
  end
  local about = {
    key = keys[1], keys = keys, positions = positions, slot = slots[1], slots = slots, group = group, type = kind,
    snapshot = snapshot,
  }
  begin(argv)
  return ended(flat(f(db, argv, about)))
end

-- A layer for what a script writes to its globals and libraries; what is below stays as it is.
local below = {}
for _, name in ipairs({ "string", "table", "math", "utf8" }) do below[name] = { __index = env[name] } end
local ground = { __index = env }
local function layer()
  local top = {}
  for name, meta in pairs(below) do top[name] = setmetatable({}, meta) end
  top._G = top
  return setmetatable(top, ground)
end

local missing = "transform: it defines no function transform(db, argv)"
local function compile(code, anew)
  begun = nil
  sethook(hook, "", steps)
  local chunk, why = load(code, "=transform", "t", anew and layer() or env)
  if not chunk then return false, why end
  chunk()
  local _, now = getupvalue(chunk, 1)
  local f = now.transform
  if type(f) ~= "function" then return false, missing end
  local of = getinfo(f, "u")
  local about = of.nparams > 2 or of.isvararg
  if not anew then return f, about end
  return function(...)
    local top = layer()
    setupvalue(chunk, 1, top)  -- its globals
    chunk()
    local g = rawget(top, "transform")
    if type(g) ~= "function" then error(missing, 0) end
    return g(...)
  end, about
end
return compile, call, call_with_about, sethook
"""
