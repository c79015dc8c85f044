"""A script's commands for the parts of a target cluster: each has what falls into its slots, together they have all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.errors import ControlError, Retry, TransformError
from sync_tasks.lanes import Lane, lanes_of
from sync_tasks.slots import slot
from sync_tasks.topology import Shard
from sync_tasks.transform.script import Script
from sync_tasks.transform.setting import TransformSpec
from tests.unit.protocol.test_translate import clock, commands, feed
from workers import lane_script
from workers.lane_script import Since, agreed
from workers.older import REFUSED
from workers.scope import Scope
from workers.target.claim import FINISHED, STREAMING
from workers.target.knows import Knows
from workers.target.windows import Window
from workers.transform_lanes import LaneTransformer
from workers.transformers import rewriter_of
from workers.translate import Translator

LANES = lanes_of([Shard(((0, 8191),), ("h", 1), (), "a"), Shard(((8192, 16383),), ("h", 2), (), "b")])
RENAME = "for _, i in ipairs(about.positions) do argv[i] = 'n:' .. argv[i] end return argv"


def key(lane: int, number: int = 0, of: str = "") -> bytes:
    """The n-th name of those that, behind `of`, are in a lane's slots."""
    low = LANES[lane].slots[0][0]
    some = (b"%d" % i for i in range(1000))
    fits = [one for one in some if low <= slot(of.encode() + one) <= low + 8191]
    return fits[number]


def made(body: str, lane: Lane) -> Translator:
    script = Script(f"function transform(db, argv, about) {body} end", anew=True)
    scope = Scope(None, lane=lane, shown=True)
    own: Any = lambda _: []  # noqa: E731
    places = {b"JSON.SET": (1, 1, 1)}
    return Translator(
        0, 0, LaneTransformer(script, scope, clock(), 0, own, lambda *_: None, lambda *_: None, Knows(places=places))
    )


def got(body: str, *argvs: list[bytes]) -> list[list[list[bytes]]]:
    """Of each lane."""
    return [[c for window in feed(made(body, lane), *argvs) for c in commands(window)] for lane in LANES]


def test_what_is_left_as_it_is_goes_where_its_key_is() -> None:
    a, b = key(0), key(1)
    stream = [[b"INCR", a], [b"INCR", b], [b"DEL", a, b], [b"JSON.SET", b, b"$", b"1"], [b"PEXPIREAT", a, b"9" * 13]]
    assert got("", *stream) == [
        [[b"INCR", a], [b"DEL", a], [b"PEXPIREAT", a, b"9" * 13]],
        [[b"INCR", b], [b"DEL", b], [b"JSON.SET", b, b"$", b"1"]],
    ]


def test_a_result_goes_where_its_own_key_is() -> None:
    a, b = key(0, of="n:"), key(1, of="n:")
    assert got(RENAME, [b"SET", a, b"1"], [b"SET", b, b"2"], [b"MSET", a, b"3", b, b"4"]) == [
        [[b"SET", b"n:" + a, b"1"], [b"MSET", b"n:" + a, b"3"]],
        [[b"SET", b"n:" + b, b"2"], [b"MSET", b"n:" + b, b"4"]],
    ]


def test_one_command_becomes_several_in_different_lanes() -> None:
    a, b = key(0), key(1)
    body = f"return {{argv, {{'SADD', '{b.decode()}', argv[2]}}, {{'SMOVE', '{a.decode()}', '{b.decode()}', 'm'}}}}"
    assert got(body, [b"SET", a, b"1"]) == [
        [[b"SET", a, b"1"], [b"SREM", a, b"m"]],
        [[b"SADD", b, a], [b"SADD", b, b"m"]],
    ]


def test_the_sources_own_command_across_slots_is_copied_anew_by_its_keys() -> None:
    """Whether the script leaves it or renames it; whoever takes over knows it, too."""
    a, b = key(0), key(1)
    rename = [b"RENAME", a, b]
    assert got("", rename) == [[[b"UNLINK", a]], [REFUSED]]
    assert made("", LANES[0]).rewriter.stands_for(rename, 0) is None
    assert made("", LANES[1]).rewriter.stands_for(rename, 0) == {(0, b)}
    a, b = key(0, of="n:"), key(1, of="n:")
    rename = [b"RENAME", a, b]
    assert got(RENAME, rename) == [[[b"UNLINK", b"n:" + a]], [REFUSED]]
    rewriter = made(RENAME, LANES[1]).rewriter
    assert rewriter.stands_for(rename, 0) == frozenset(), "all that it names"
    assert rewriter.stands_for([b"SET", a, b"1"], 0) is None
    (window,) = feed(made(RENAME, LANES[1]), rename)
    assert window.command(0)[0] == rename
    assert window.is_expected(0)


@pytest.mark.parametrize("name", ["RENAME', '{a}', '{b}'", "SUNIONSTORE', '{a}', '{b}'", "MOD.X', '{a}', '{b}'"])
def test_another_command_across_slots_is_an_error_in_all_lanes(name: str) -> None:
    body = "return {{'" + name.format(a=key(0).decode(), b=key(1).decode()) + "}}"
    body = body.replace("{{", "{").replace("}}", "}")
    for lane in LANES:
        with pytest.raises(TransformError, match=r"at SET k: transform returned .* several hash slots") as caught:
            feed(made(body, lane), [b"SET", b"k", b"1"])
        assert caught.value.retry is Retry.OTHER


def test_a_call_has_nothing_of_those_before() -> None:
    """Each lane calls it from another command on."""
    body = "count = (count or 0) + 1 string.seen = (string.seen or 0) + 1 argv[3] = count + string.seen return argv"
    a = key(0)
    assert got(body, [b"SET", a, b"x"], [b"SET", a, b"x"])[0] == [[b"SET", a, b"2"]] * 2
    script = Script("local n = 0 function transform(db, argv) n = n + 1 return {'SET', 'k', n} end", anew=True)
    assert [script.run(0, [b"SET", b"k", b"v"]) for _ in range(2)] == [[(None, [b"SET", b"k", b"1"])]] * 2


def test_a_part_of_a_cluster_has_its_script_run_anew() -> None:
    spec = TransformSpec(lua="n = 0 function transform(db, argv) n = n + 1 return {'SET', argv[2], n} end")
    told: Any = lambda *_: []  # noqa: E731
    for lane, values in ((None, [b"1", b"2"]), (LANES[0], [b"1", b"1"])):
        made = rewriter_of(spec)(Scope(None, lane=lane, shown=lane is not None), clock(), 0, told, told, told)
        window = Window()
        for _ in values:
            made.write("", [b"SET", key(0), b"x"], 0, 0, 0, window)
        assert [command[2] for command in commands(window) if command[0] == b"SET"] == values


# --- by which script


def stands(script: str, offset: int, state: str = STREAMING) -> Any:
    return SimpleNamespace(script=script, offset=offset, state=state)


class Log:
    """Of offsets 0 to 100, with a command between 50 and 60."""

    start, end = 0, 100


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Any:
    def commands(_log: Any, start: int, stop: int, *_: Any) -> Any:
        yield 0, [b"PING"]
        if start < 60 and stop > 50:
            yield 0, [b"SET", b"k", b"v"]

    monkeypatch.setattr(lane_script, "commands", commands)
    return Log()


@pytest.mark.parametrize(
    ("found", "snapshot", "place"),
    [
        ([stands("new:10", 20), stands("new:10", 90)], None, None),
        ([stands("old:1", 20), stands("old:1", 20)], None, (20, 20)),
        ([stands("old:1", 20), stands("old:1", 40)], None, (20, 40)),  # but for PING
        ([stands("old:1", 40), stands("new:40", 90)], None, (40, 40)),  # somebody died in between
        ([stands("new:30", 90), None], 30, (30, 30)),  # one has begun to stream
        ([None, None], 30, None),
        ([stands("new:30", 90), None], None, None),  # a checkpoint was lost: that is another's to tell
        ([stands("old:1", 20), stands("old:1", 70, FINISHED)], None, (20, 20)),
    ],
)
def test_lanes_change_their_script_at_one_place(found: list[Any], snapshot: int | None, place: Any, log: Any) -> None:
    assert agreed("new", found, snapshot, log) == place


@pytest.mark.parametrize(
    "found",
    [
        [stands("old:1", 20), stands("old:1", 70)],
        [stands("old:1", 20), stands("new:70", 70)],
        [stands("older:1", 20), stands("old:20", 70)],
        [stands("", 20), stands("", 20)],  # it had none: its checkpoints speak of its own slots alone
        [stands("old:1", 20), stands("old:1", 120)],  # the log does not say
    ],
)
def test_else_it_is_refused(found: list[Any], log: Any) -> None:
    with pytest.raises(ControlError) as caught:
        agreed("new", found, None, log)
    assert (caught.value.code, caught.value.retry) == ("transform-changed", Retry.OTHER)


def test_since_when_is_read_back() -> None:
    assert Since.parse(str(Since("abc", 77))) == Since("abc", 77)
    assert Since.parse("") == Since("", 0)


def test_a_script_is_the_same_with_other_empty_lines_around_it() -> None:
    lua = "function transform(db, argv)\nend"
    assert TransformSpec(lua=f"\n{lua}\n").digest == TransformSpec(lua=lua).digest
    assert TransformSpec(lua=lua + " -- other").digest != TransformSpec(lua=lua).digest
    assert TransformSpec().digest == ""
