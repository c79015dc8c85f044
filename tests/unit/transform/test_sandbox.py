"""What a script may do, and what happens to one that does something else."""

from __future__ import annotations

import time

import psutil
import pytest

from sync_tasks.errors import Retry, TransformError, UsageError
from sync_tasks.transform.script import LIMIT_S, LONG, MEMORY, Script

SET = [b"SET", b"user:1", b"v"]
LATE_S = 1.0
"""Of processor time, on a machine with other things to do."""


def script(body: str, *, anew: bool = False) -> Script:
    return Script(f"function transform(db, argv, about) {body} end", anew=anew)


def made(body: str, argv: list[bytes] | None = None) -> object:
    return script(body).run(2, argv or SET)


def value(expression: str) -> bytes:
    """What an expression is, as text."""
    found = script(f"return {{'SET', 'k', tostring({expression})}}").run(0, SET)
    assert found is not None
    return found[0][1][2]


# --- what it returns


@pytest.mark.parametrize(
    ("body", "becomes"),
    [
        ("", None),
        ("return nil", None),
        ("return argv", None),
        ("return false", []),
        ("return {}", []),
        ("argv[2] = 'u' .. argv[2]:sub(5) return argv", [(None, [b"SET", b"u:1", b"v"])]),
        ("return {db = db + 1, 'SADD', 's', 1, 2.5}", [(3, [b"SADD", b"s", b"1", b"2.5"])]),
        (
            "return {argv, {db = 9, 'DEL', 'x\\0y'}}",
            [(None, SET), (9, [b"DEL", b"x\0y"])],
        ),
    ],
)
def test_what_becomes_of_a_command(body: str, becomes: object) -> None:
    assert made(body) == becomes


def test_a_command_of_many_arguments() -> None:
    long = [b"SADD", b"s", *(b"%d" % i for i in range(30_000))]
    assert made("argv[2] = 't' return argv", long) == [(None, [b"SADD", b"t", *long[2:]])]
    assert made("return false", long) == []
    assert made("", long) is None


def test_a_command_of_many_keys_has_more_time() -> None:
    keys = [b"k%d" % i for i in range(50_000)]
    rename = "for _, i in ipairs(about.positions) do argv[i] = 'n' .. argv[i] end return argv"
    assert made(rename, [b"DEL", *keys]) == [(None, [b"DEL", *(b"n" + key for key in keys)])]
    with pytest.raises(TransformError, match="longer than 100 ms"):
        made("while true do end", [b"SADD", *keys[:2000]][:2000])


def test_a_long_argument_stays_outside_and_can_be_put_anywhere() -> None:
    big = b"x" * (LONG + 1)
    assert made("assert(#argv[3] < 100) return {'HSET', 'h', 'f', argv[3]}", [b"SET", b"k", big]) == [
        (None, [b"HSET", b"h", b"f", big])
    ]
    assert made("assert(#argv[3] < 100)", [b"SET", b"k", big]) is None
    assert made("assert(#argv[3] == 1048576)", [b"SET", b"k", big[1:]]) is None


def test_what_it_is_told_of_a_command() -> None:
    told = script(
        "return {'SET', about.key, about.type or 'none', about.group, about.slot, table.concat(about.positions, ','),"
        " table.concat(about.keys, ','), table.concat(about.slots, ','), tostring(about.snapshot)}"
    )
    assert told.run(0, [b"ZUNIONSTORE", b"{a}1", b"2", b"b", b"c"]) == [
        (None, [b"SET", b"{a}1", b"zset", b"sorted-set", b"15495", b"2,4,5", b"{a}1,b,c", b"15495,3300,7365", b"false"])
    ]
    found = told.run(0, [b"DEL", b"a"], type="hash", snapshot=True)
    assert found == [(None, [b"SET", b"a", b"hash", b"generic", b"15495", b"2", b"a", b"15495", b"true"])]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return 5", "returned a number, not a command"),
        ("return true", "returned a boolean"),
        ("return 'DEL'", "returned a string"),
        ("return {{}}", "an empty command"),
        ("return {'SET', 'k', {}}", "a table among the arguments"),
        ("return {'SET', 'k', true}", "a boolean among the arguments"),
        ("return {argv, 5}", "a number among commands"),
        ("return {db = -1, 'DEL', 'k'}", "a db that is none"),
        ("return {db = 'x', 'DEL', 'k'}", "a db that is none"),
        ("return {db = 3, {'DEL', 'k'}}", "a db beside a list"),
        ("return {'FLUSHALL'}", "FLUSHALL, which is not a command that writes a key"),
        ("return {'EXEC'}", "EXEC, which is not"),
        ("return {'SUBSCRIBE', 'x'}", "SUBSCRIBE, which is not"),
        ("return {'GET', 'x'}", "GET, which is not"),
        ("return {'DEL'}", "without a key"),
        ("return {'SET', 'keyferry:1:0:ck', 'x'}", "begins with keyferry:"),
        ("return {'RENAME', 'x', 'keyferry:1:0:ck'}", "begins with keyferry:"),
    ],
)
def test_what_is_no_command_is_refused(body: str, says: str) -> None:
    with pytest.raises(TransformError, match="at SET user:1") as caught:
        made(body)
    assert says in caught.value.message


def test_an_error_names_line_and_key_and_is_retried() -> None:
    with pytest.raises(TransformError) as caught:
        made("\n\n local x = nil; x.y = 1")
    assert (caught.value.line_number, caught.value.retry, caught.value.code) == (3, Retry.OTHER, "transform")
    assert caught.value.message.startswith("line 3 of the transform, at SET user:1: attempt to index a nil value")
    for raised in ("error({})", "error()", "error('no', 0)", "error('no')"):
        with pytest.raises(TransformError, match=r"at SET user:1: ."):
            made(raised)


@pytest.mark.parametrize(
    "lua", ["x =", "function transform(", "x = 1", "transform = 5", "\x1bLua", "while true do end", "error('no')"]
)
def test_what_does_not_compile_is_told_at_once(lua: str) -> None:
    with pytest.raises(UsageError, match="the transform"):
        Script(lua)


# --- what it may not do


FORBIDDEN = (
    "io os package require debug load loadstring loadfile dofile collectgarbage coroutine setmetatable getmetatable"
    " xpcall python print warn string.dump table.move math.random math.randomseed"
)


@pytest.mark.parametrize("name", FORBIDDEN.split())
def test_it_has_no_way_out(name: str) -> None:
    assert value(name) == b"nil"


def test_methods_of_strings_are_those_it_has() -> None:
    assert value("('x').dump") == b"nil"
    assert value("('x').rep == string.rep") == b"true"
    assert value("('x'):upper()") == b"X"
    with pytest.raises(TransformError, match="getmetatable"):
        made("return getmetatable('').__index")


def test_its_globals_are_its_own() -> None:
    one = Script("string.upper = nil; io = 5; function transform() return {'SET', 'k', io} end")
    assert one.run(0, SET) == [(None, [b"SET", b"k", b"5"])]
    assert value("io") == b"nil"
    assert value("('x'):upper()") == b"X"


def test_run_anew_it_has_nothing_of_the_calls_before() -> None:
    text = """
      local calls, kept = 0, {}
      function transform(db, argv)
        calls = calls + 1 kept[#kept + 1] = 1 total = (total or 0) + 1
        string.upper, table.total, _G.other = nil, (table.total or 0) + 1, (_G.other or 0) + 1
        if rawget(_G, 'transform') == nil then return false end
        transform = nil
        return {'SET', ('k'):upper(), calls, #kept, total, table.total, other}
      end
    """
    one = Script(text, anew=True)
    assert [one.run(0, SET) for _ in range(3)] == [[(None, [b"SET", b"K", *[b"1"] * 5])]] * 3
    with pytest.raises(UsageError, match="it defines no function transform"):
        Script("function other() end", anew=True)
    with pytest.raises(UsageError, match="line 2"):
        Script("local a = 1\nlocal b = nil + a\nfunction transform() end", anew=True)


LOOPS = [
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "local function f() pcall(f) return f() end f()",
    "local function f() ('x'):gsub('.', function() pcall(f) f() end) return f() end f()",
    "local function f() table.sort({1, 2}, function() pcall(f) return f() end) return f() end f()",
    "repeat local ok = pcall(error, 'x') until false",
    "for i = 1, math.huge do local s = ('x'):rep(1000) end",
    "local t = {3, 2, 1} while true do table.sort(t, function(a, b) while true do end end) end",
    "(('x'):rep(100)):gsub('.', function() while true do end end)",
]


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("body", LOOPS)
def test_an_endless_loop_ends_in_time(body: str, anew: bool) -> None:
    one = script(f"if argv[2] == 'user:1' then {body} end", anew=anew)
    begun = time.thread_time()
    with pytest.raises(TransformError, match="longer than 50 ms") as caught:
        one.run(0, SET)
    took = time.thread_time() - begun
    assert LIMIT_S <= took < LATE_S
    assert caught.value.line_number == 1
    # The next call begins with all its time, and its first instruction is none too many.
    assert one.run(0, [b"DEL", b"other"]) is None


def test_time_between_calls_is_not_the_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook's count goes on from one call to the next, wherever in a call it looks at the clock."""
    limit = 0.002
    monkeypatch.setattr("sync_tasks.transform.script.LIMIT_S", limit)
    one = script("for i = 1, 1 + #argv[2] do end")
    for size in range(1500):
        one.run(0, [b"DEL", b"x" * (size % 300)])
        begun = time.thread_time()
        while time.thread_time() - begun < 1.2 * limit:
            pass


@pytest.mark.parametrize(
    "body",
    [
        "local s = string.rep('', 1e15)",
        "('a'):rep(1e5):match('(.-)(.-)(.-)b')",
        "('a'):rep(1e5):find('a-a-a-b')",
        "('a'):rep(1e5):gsub('a*a*b', '')",
        "for _ in ('a'):rep(1e5):gmatch('a*a*b') do end",
        "('a'):rep(40):match(('a?'):rep(40) .. ('a'):rep(40))",
        "('('):rep(1e5):find('%b()%b()x')",
    ],
)
def test_what_no_hook_interrupts_is_bounded(body: str) -> None:
    begun = time.thread_time()
    with pytest.raises(TransformError):
        made(f"{body} error('done')")
    assert time.thread_time() - begun < LATE_S


def test_patterns_of_everyday_are_allowed() -> None:
    assert value("('tenant:42:user:7'):match('^(.-):(.-):(.-):(.*)$')") == b"tenant"
    assert value("select(2, ('x y  z '):rep(20000):gsub('%s+', ''))") == b"60000"
    assert value("('x'):rep(1e6):find('y', 1, true)") == b"nil"
    assert value("#('x'):rep(1e6):match('x*')") == b"1000000"


@pytest.mark.parametrize(
    "body",
    [
        "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end",
        "local s = 'x' while true do s = s .. s end",
        "return {'SET', 'k', ('x'):rep(1e8)}",
        "while true do pcall(string.rep, 'x', 1e8) end",
    ],
)
def test_memory_is_bounded(body: str) -> None:
    before = psutil.Process().memory_info().rss
    one = script(f"if argv[2] == 'user:1' then {body} end")
    with pytest.raises(TransformError, match=r"more than 64 MB|longer than 50 ms"):
        one.run(0, SET)
    assert psutil.Process().memory_info().rss - before < 2 * MEMORY
    assert one.run(0, [b"DEL", b"other"]) is None
