"""Commands that are longer than is held in memory: they take effect as any other, from the log."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha1
from pathlib import Path

import pytest

from sync_tasks.errors import Malformed
from sync_tasks.keyfilter import FilterSpec
from sync_tasks.spec import TaskSpec
from tests.servers import Server
from tests.unit.protocol.conftest import REPLID, TASK, UID, Followed, translator, until
from workers import translate
from workers.clock import Clock
from workers.codec.reads import Reads
from workers.codec.resp_cy import arguments, encode
from workers.moment import now_ms
from workers.rewrite import Rewriter
from workers.scope import Scope
from workers.spool import commands as commands_module
from workers.spool import known as known_module
from workers.spool import long as module
from workers.spool.commands import commands
from workers.spool.known import Known
from workers.spool.log import Block, Log
from workers.spool.long import Long, begin, stretch
from workers.spool.scripts import Scripts
from workers.target.knows import Knows
from workers.target.windows import Window
from workers.translate import Translator

BIG = b"v" * 100
SHA = sha1(b"return 4").hexdigest().encode()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is long is short here."""
    monkeypatch.setattr(module, "ARGUMENT_BYTES", 30)
    monkeypatch.setattr(module, "MOST_ARGUMENTS", 8)
    monkeypatch.setattr(translate, "MOST_ARGUMENTS", 8)
    for user in (translate, known_module):
        monkeypatch.setattr(user, "HELD_BYTES", 60)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_its_end_is_found_however_it_is_cut(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ARGUMENTS", 5)
    argv = [b"RPUSH", b"key", BIG, b"", b"a", b"left", BIG, b"x" * 31]
    data = encode(argv)
    found = Long(1000)
    for at in range(0, len(data), step):
        rest = found.feed(data[at : at + step] + (b"*1\r\n" if at + step >= len(data) else b""))
        assert (rest is None) == (at + step < len(data))
    assert rest == b"*1\r\n"
    assert (found.size, found.argv) == (len(data), [b"RPUSH", b"key", b"", b"", b"a"])
    start = data.index(BIG)
    assert found.long == {2: (1000 + start, 100)}
    assert found.count == 8
    assert [data[at - 1000 :][:3] for at in found.starts] == [b"$5\r", b"$3\r", b"$10", b"$0\r", b"$1\r"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("data", [b"*2\r\n$3\r\nSET\r\n+", b"*x\r\n", b"*2\r\n$3\r\nSET\r\n$" + b"9" * 5000])
def test_what_makes_no_sense(data: bytes) -> None:
    with pytest.raises(Malformed):
        Long(0).feed(data + b" " * 40)


def test_what_must_be_held() -> None:
    assert begin(encode([b"SET", b"k" * (module.ARGUMENT_BYTES + 1), b"v"]), 0) is None
    assert begin(encode([b"MSET", *[b"k"] * 100]), 0) is None
    assert begin(encode([b"HPEXPIRE", *[b"k"] * 100]), 0) is None
    assert begin(encode([b"SADD", *[b"k"] * 100]), 0) is not None
    assert begin(encode([b"set", b"k", b"v"]), 0, lambda name, count: (name, count) == (b"SET", 3)) is None


def test_a_log_that_was_begun_anew(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.reset(REPLID, 0)
    log.append(b"0123456789", 1)
    log.append(b"abcdef", 1)
    assert b"".join(stretch(log, 4, 8)) == b"456789ab"
    for start, size in ((4, 20), (16, 1)):
        with pytest.raises(Malformed, match="anew"):
            b"".join(stretch(log, start, size))
    log.reset(REPLID, 12)
    with pytest.raises(Malformed, match="anew"):
        next(stretch(log, 4, 8))


COMMANDS: list[list[bytes]] = [
    [b"SET", b"a", BIG], [b"APPEND", b"a", b"x"], [b"SET", b"a", BIG, b"PX", b"5000"], [b"SET", b"a", b"1"],
    [b"RPUSH", b"l", *[b"element"] * 30], [b"SELECT", b"1"], [b"INCR", b"n"], [b"SETEX", b"e", b"100", BIG * 2],
    [b"SET", b"a", BIG, b"IFEQ", BIG + b"!"], [b"MSET", b"p", BIG, b"q", BIG], [b"MSET", *[b"many", b"values"] * 20],
    [b"SELECT", b"0"], [b"HSET", b"h", b"f", BIG], [b"SET", b"a", BIG, b"KEEPTTL"], [b"RESTORE", b"r", b"0", BIG],
    [b"SELECT", b"9"], [b"SET", b"out of scope", BIG], [b"EVAL", b"return 1 -- " + BIG, b"1", b"k"],
]  # fmt: skip
REWRITTEN: list[list[bytes]] = [
    [b"SELECT", b"0"], [b"EVAL", b"return 2", b"1", b"k", BIG, b"arg"], [b"EVALSHA", SHA, b"1", b"k", BIG, b"arg"],
    [b"EVALSHA", SHA, b"1", b"k", *[b"argument"] * 20], [b"EVAL", b"return 3", b"0", BIG],
    [b"HSETEX", b"h", b"PXAT", b"%d" % (1 << 50), b"FIELDS", b"1", b"f" * 40, BIG],
    [b"MSETEX", b"2", b"p", BIG, b"q", BIG, b"PX", b"70"], [b"MSETEX", b"1", BIG, BIG], [b"PUBLISH", b"c", BIG],
]  # fmt: skip


def random_stream(rng: random.Random) -> Iterator[list[bytes]]:
    inside = False
    for _ in range(40):
        if rng.random() < 0.3:
            yield [b"EXEC"] if inside else [b"MULTI"]
            inside = not inside
        else:
            argv = rng.choice(COMMANDS + REWRITTEN)
            yield argv if argv[0] != b"RESTORE" else [b"INCR", b"n"]
    if inside:
        yield [b"EXEC"]


def sent(windows: list[Window]) -> list[tuple[bytes, list[bytes]]]:
    """The commands of all windows, with their databases; each window begins in the first."""
    out: list[tuple[bytes, list[bytes]]] = []
    for window in windows:
        body, at, db = b"".join(window.pieces()), 0, b"0"
        assert len(body) == window.size
        for _ in range(window.commands):
            argv = arguments(body, at)
            at += len(encode(argv))
            if argv[0] == b"SELECT":
                db = argv[1]
            else:
                out.append((db, argv))
        assert at == len(body)
    return out


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("commands", [frozenset((b"HSETEX", b"FUNCTION", b"HGETDEL", b"HPEXPIREAT")), frozenset()])
@pytest.mark.parametrize("blocked", [[], ["set", "setex", "msetex", "APPEND", "restore"]])
@pytest.mark.parametrize("seed", range(40))
def test_what_is_sent_is_the_same_as_if_all_were_held(
    seed: int, blocked: list[str], commands: frozenset[bytes], tmp_path: Path
) -> None:
    rng, scope = random.Random(seed), Scope({0: 0, 1: 5}, FilterSpec(block_commands=blocked))
    data = b"".join(map(encode, random_stream(rng)))
    log = Log(tmp_path)
    log.reset(REPLID, 0)
    while (at := log.end or 0) < len(data):
        log.append(data[at : at + rng.randint(1, 300)], 1)
    found, keys = [], []
    for where in (log, None):
        touched: list[tuple[int, bytes]] = []
        knows, scripts = Knows(Reads(11), commands), Scripts(tmp_path / "scripts")
        scripts.add(b"return 4")
        note = lambda db, key, *_, to=touched: to.append((db, key))  # noqa: E731
        rewriter = Rewriter(
            scope, Clock(0, now_ms=lambda: 0), 0, lambda _: [], note, print, knows, scripts=scripts
        )  # fmt: skip
        made, at = Translator(0, 0, rewriter, where), 0
        for one in stretch(log, 0, len(data)):
            made.feed(Block(at, 1, 0, REPLID, one))
            at += len(one)
        made.flush()
        last = made.take()
        windows = [*made.full, *([last] if last else [])]
        assert [w.end for w in windows] == sorted({w.end for w in windows})
        assert windows[-1].end == len(data)
        found.append(windows)
        keys.append(touched)
        for window in windows:
            positions = [run.position for run in window.runs]
            assert positions == sorted(positions)
    assert keys[0] == keys[1]
    held = sum(len(w.body) for w in found[0])
    assert held < sum(len(w.body) for w in found[1]) or held < 3000
    assert sent(found[0]) == sent(found[1])
    names = {argv[0].upper() for _, argv in sent(found[0])}
    assert names.isdisjoint(name.upper().encode() for name in blocked)


@pytest.mark.usefixtures("small")
def test_its_first_arguments_and_its_database_are_known(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.reset(REPLID, 0)
    rewriter = Rewriter(Scope({0: 0, 1: 5}), Clock(0, now_ms=lambda: 0), 0, lambda _: [], lambda *_: None, print)
    made = Translator(0, 0, rewriter, log)
    stream = [
        [b"MULTI"], [b"INCR", b"n"], [b"SET", b"a", BIG], [b"SELECT", b"1"], [b"SET", b"b", BIG, b"PX", b"9"],
        [b"INCR", b"m"], [b"EXEC"],
    ]  # fmt: skip
    for one in map(encode, stream):
        start = log.end or 0
        for at in range(0, len(one), 50):
            log.append(one[at : at + 50], 1)
            made.feed(Block(start + at, 1, 0, REPLID, one[at : at + 50]))
    window = made.take()
    assert window is not None
    assert len(window.elsewhere) == 2
    assert [window.command(i)[0][:3] for i in range(window.commands)] == [
        [b"INCR", b"n"], [b"SET", b"a", b""], [b"SELECT", b"5"], [b"SET", b"b", b""], [b"INCR", b"m"],
    ]  # fmt: skip
    assert window.command(1)[1] == len(encode(stream[0]) + encode(stream[1]))
    assert [window.database(i) for i in (0, 1, 3, 4)] == [0, 0, 5, 5]


@pytest.mark.usefixtures("small")
def test_whoever_reads_the_log_sees_their_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands_module, "HELD_BYTES", 60)
    stream = [*COMMANDS, [b"MSET", b"p", BIG * 5, b"q", BIG * 5], [b"MSET", *[b"many", b"values"] * 40], [b"DEL", b"z"]]
    log = Log(tmp_path)
    log.reset(REPLID, 0)
    data = b"".join(map(encode, stream))
    for at in range(0, len(data), 50):
        log.append(data[at : at + 50], 1)
    found = list(commands(log, 0, len(data), 0, lambda: pytest.fail("all is there")))
    assert [argv[:2] for _, argv in found] == [argv[:2] for argv in stream]
    assert [db for db, _ in found] == [0] * 5 + [1] * 6 + [0] * 4 + [9] * 6
    assert found[-3][1] == [b"MSET", b"p", b"", b"q", b""]
    assert found[-2][1] == stream[-2], "what names more keys than are kept is whole"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("argv", [[b"SETEX", b"k", b"abc", BIG], [b"SET", b"k", BIG, b"PX"]])
def test_arguments_without_sense_are_malformed(argv: list[bytes], tmp_path: Path) -> None:
    rewriter = Rewriter(Scope(None), Clock(0), 0, lambda _: [], lambda *_: None, print)
    made, data = Translator(0, 0, rewriter, Log(tmp_path)), encode(argv)
    blocks = [Block(at, 1, 0, REPLID, data[at : at + 50]) for at in range(0, len(data), 50)]
    with pytest.raises(Malformed, match=r"stream offset 0"):
        list(map(made.feed, blocks))


@pytest.mark.usefixtures("small")
def test_the_list_of_keys_has_them(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.reset(REPLID, 0)
    lists = []
    for where, step in (("whole", 10_000), ("long", 50)):
        log.reset(REPLID, 0)
        for argv in COMMANDS:
            data = encode(argv)
            for at in range(0, len(data), step):
                log.append(data[at : at + step], 1)
        log.append(encode([b"SET", b"cut", BIG])[:-20], 1)
        made = Known(tmp_path / where, UID, 1)
        made.create()
        made.begin(0, 0)
        known_module.STEP_BYTES, before = step, known_module.STEP_BYTES
        try:
            made.fold(log)
        finally:
            known_module.STEP_BYTES = before
        assert made.whole
        assert made.offset == sum(len(encode(argv)) for argv in COMMANDS)
        hashes = {db: made.part(db, 0, 0) for db in made.databases()}
        lists.append({db: {h[at : at + 16] for at in range(0, len(h), 16)} for db, h in hashes.items()})
    assert lists[0] == lists[1]
    assert len(lists[0][0]) > 3


def test_long_values_arrive(target: Server, follow: Callable[..., Followed]) -> None:
    """Through a real chain, more than the target's socket takes at once."""
    stream = follow(target, task=replace(TASK, spec=TaskSpec(extend_expiry_s=3600)))
    value = random.Random(1).randbytes(20 << 20)

    def write(argv: list[bytes]) -> None:
        data = encode(argv)
        for at in range(0, len(data), 256 << 10):
            stream.log.append(data[at : at + (256 << 10)], now_ms())

    with target.client() as client:
        for argv in (
            [b"SELECT", b"0"], [b"INCR", b"n"], [b"SET", b"one", value], [b"MULTI"], [b"INCR", b"n"],
            [b"APPEND", b"two", value], [b"SET", b"three", value, b"PX", b"9000000"], [b"INCR", b"n"], [b"EXEC"],
            [b"EVAL", b"redis.call('SET', KEYS[1], ARGV[2], 'EX', 900)", b"1", b"script", b"x", value],
            [b"EVAL", b"return redis.call('RPUSH', KEYS[1], unpack(ARGV))", b"1", b"many", *[value[:90_000]] * 200],
            [b"RPUSH", b"list", *[value[:50]] * 300_000], [b"INCR", b"n"], [b"INCRBY", b"two", b"1"], [b"INCR", b"n"],
        ):  # fmt: skip
            write(argv)
        assert until(lambda: client.get("n") == b"5", 60)
        assert client.get("script") == value
        assert client.pttl("script") > 1 << 59, "held until the source is asked"
        assert client.lrange("many", 0, -1) == [value[:90_000]] * 200
        assert [client.get(key) == value for key in ("one", "two", "three")] == [True] * 3
        assert client.llen("list") == 300_000
        assert client.pttl("one") == -1
        assert client.pttl("three") > 0


def test_nothing_is_long_without_a_log() -> None:
    made = translator()
    data = encode([b"SET", b"a", b"v" * (9 << 20)])
    for at in range(0, len(data), 1 << 20):
        made.feed(Block(at, 1, 0, REPLID, data[at : at + (1 << 20)]))
    made.flush()
    window = made.full[0] if made.full else made.take()
    assert window is not None
    assert not window.elsewhere
