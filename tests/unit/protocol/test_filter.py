"""Keys and commands that do not travel: what the stream leaves of the others."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_tasks.errors import Malformed
from sync_tasks.keyfilter import FilterSpec
from tests.unit.codec.forms import form
from workers.clock import Clock
from workers.codec.filter_cy import Filter
from workers.codec.resp_cy import KEYED, MORE, SKIP, SPECIAL, Scanner, encode
from workers.crossing import divide
from workers.older import REFUSED
from workers.rewrite import Rewriter
from workers.scope import Scope
from workers.search import Search
from workers.single import DELETING, SINGLE
from workers.spool.log import Block
from workers.target.knows import Knows
from workers.target.windows import Window
from workers.translate import Translator
from workers.wanted import Wanted

REPLID = "r" * 40
RULES = FilterSpec(allow_prefixes=["in:", "hex:00ff"], block_prefixes=["in:not"], db={"3": {"block_prefixes": ["in:"]}})  # type: ignore[dict-item]


def takes(key: bytes) -> bool:
    """The same in Python."""
    return key.startswith((b"in:", b"\x00\xff")) and not key.startswith(b"in:not")


@pytest.mark.parametrize(
    ("allow", "block", "key", "taken"),
    [
        ([], [], b"any", True),
        ([], [], b"", True),
        ([b"a"], [], b"a", True),
        ([b"a"], [], b"", False),
        ([b"ab", b"ac"], [], b"ad", False),
        ([b"ab", b"ac"], [], b"acd", True),
        ([b"abc"], [], b"ab", False),
        ([], [b"a"], b"ab", False),
        ([], [b"a"], b"b", True),
        ([b"a"], [b"ab"], b"abc", False),
        ([b"ab"], [b"a"], b"abc", False),
        ([b"\x00"], [], b"\x00\x01", True),
        ([b"\xff"], [], b"\xff", True),
    ],
)
def test_prefixes(allow: list[bytes], block: list[bytes], key: bytes, taken: bool) -> None:
    assert Filter(allow, block).takes(key) is taken


@settings(max_examples=200)
@given(
    st.lists(st.binary(max_size=4), max_size=30), st.lists(st.binary(max_size=4), max_size=30), st.binary(max_size=6)
)
def test_many_prefixes_are_found_by_halves(allow: list[bytes], block: list[bytes], key: bytes) -> None:
    wanted = (not allow or key.startswith(tuple(allow))) and not key.startswith(tuple(block))
    for name in ("compiled", "plain"):
        assert form(name).Filter(allow, block).takes(key) == wanted


def test_a_scope_has_rules_for_every_database_or_for_one() -> None:
    scope = Scope({0: 5, 3: 6}, RULES)
    assert [scope.takes(db, b"in:a") for db in (0, 3, 4)] == [True, False, False]
    assert scope.takes(3, b"other"), "the general rules do not count there"
    own = FilterSpec(block_prefixes=["a"], db={"3": {"allow_prefixes": ["a"]}})  # type: ignore[dict-item]
    assert [Scope(None, own).takes(*at) for at in ((0, b"a"), (3, b"a"), (3, b"b"))] == [False, True, False]
    assert [scope.ours(5, key) for key in (b"in:a", b"in:not", b"x")] == [True, False, False]
    assert not scope.ours(0, b"in:a"), "no source database goes there"
    assert Scope({0: 5}).ours(0, b"x"), "without a filter nobody asks"


NAMES = [*sorted(SINGLE), b"DEL", b"unlink", b"mset", b"RPOPLPUSH", b"JSON.SET", b"AVERYLONGCOMMANDNAME"]


@pytest.mark.parametrize("seed", range(20))
def test_the_scanner_passes_over_what_is_not_in_scope(seed: int) -> None:
    rng = random.Random(seed)
    stream, kept, special = [], [], []
    for _ in range(400):
        name = rng.choice(NAMES) if rng.random() < 0.5 else b"SET"
        name = name.lower() if rng.random() < 0.2 else name
        key = rng.choice([b"in:a", b"in:not", b"\x00\xffz", b"out", b"", b"in"])
        argv = [name, key, *[b"v"] * rng.randrange(3)]
        stream.append(argv)
        upper = name.upper()
        if upper in SINGLE or (upper in DELETING and len(argv) == 2):
            kept += [argv] if takes(key) else []
        else:
            special.append(argv)
    data = b"".join(map(encode, stream))
    scanner = Scanner({}, False, SINGLE, DELETING)
    scanner.filter(Filter([b"in:", b"\x00\xff"], [b"in:not"]))
    found, found_special, pos, size = b"", [], 0, 0
    while True:
        size = max(size, min(len(data), pos + rng.randrange(1, 2000)))  # as it arrives
        end, count, why, argv, after, kind = scanner.scan(data[:size], pos, rng.randrange(1, 50), 1 << 20)
        assert (count == 0) == (end == pos)
        found += data[pos:end]
        pos = after if why in (SPECIAL, SKIP) else end
        if why == SPECIAL:
            assert kind == KEYED
            found_special.append(argv)
        if why == MORE and size == len(data):
            break
    assert pos == len(data)
    assert found == b"".join(map(encode, kept))
    assert found_special == special


DIVIDED: list[tuple[str, list[str] | None]] = [
    ("DEL in:a out in:b", ["DEL in:a in:b"]),
    ("UNLINK out other", []),
    ("MSET in:a 1 out 2 in:b 3", ["MSET in:a 1 in:b 3"]),
    ("MSETNX in:a 1 out 2", ["MSET in:a 1"]),
    ("MSETNX in:a 1 in:b 2", ["MSETNX in:a 1 in:b 2"]),
    ("MSET out 2", []),
    ("RPOPLPUSH in:a in:b", ["RPOPLPUSH in:a in:b"]),
    ("RPOPLPUSH in:a out", ["RPOP in:a"]),
    ("RPOPLPUSH out in:a", None),
    ("RPOPLPUSH out other", []),
    ("LMOVE in:a out LEFT RIGHT", ["LPOP in:a"]),
    ("LMOVE in:a out RIGHT LEFT", ["RPOP in:a"]),
    ("LMOVE out in:a LEFT LEFT", None),
    ("SMOVE in:a out m", ["SREM in:a m"]),
    ("SMOVE out in:a m", ["SADD in:a m"]),
    ("SUNIONSTORE in:a in:b in:c", ["SUNIONSTORE in:a in:b in:c"]),
    ("SUNIONSTORE in:a in:b out", None),
    ("SUNIONSTORE out in:b in:c", []),
    ("PFMERGE in:a out", None),
    ("BITOP AND in:a in:b in:c", ["BITOP AND in:a in:b in:c"]),
    ("BITOP AND in:a out in:c", None),
    ("BITOP AND out in:a in:c", []),
    ("ZUNIONSTORE in:a 2 in:b in:c WEIGHTS 1 2", ["ZUNIONSTORE in:a 2 in:b in:c WEIGHTS 1 2"]),
    ("ZUNIONSTORE in:a 2 in:b out WEIGHTS 1 2", None),
    ("ZDIFFSTORE out 1 in:b", []),
    ("ZRANGESTORE in:a in:b 0 -1", ["ZRANGESTORE in:a in:b 0 -1"]),
    ("GEOSEARCHSTORE in:a out FROMMEMBER m", None),
    ("SORT in:a STORE in:b", ["SORT in:a STORE in:b"]),
    ("SORT out STORE in:b", None),
    ("SORT in:a BY w_* STORE in:b", None),
    ("SORT in:a STORE out", []),
    ("SORT in:store STORE in:b", ["SORT in:store STORE in:b"]),
    ("SORT store STORE in:b", None),
    ("SORT store STORE out", []),
    ("SORT in:a BY store STORE in:b", ["SORT in:a BY store STORE in:b"]),
    ("SORT in:a BY nosort GET # STORE in:b", ["SORT in:a BY nosort GET # STORE in:b"]),
    ("SORT in:a GET w_* STORE in:b", None),
    ("SORT in:a STORE out STORE in:b", ["SORT in:a STORE out STORE in:b"]),
    ("SORT in:a STORE in:b STORE out", []),
    ("SORT in:a LIMIT 0 store ASC STORE in:b", ["SORT in:a LIMIT 0 store ASC STORE in:b"]),
    ("GEORADIUS store 1 2 3 m STORE in:b", None),
    ("GEORADIUSBYMEMBER in:a store 3 m COUNT 2 STORE in:b", ["GEORADIUSBYMEMBER in:a store 3 m COUNT 2 STORE in:b"]),
    ("PFCOUNT in:a", ["PFCOUNT in:a"]),
    ("PFCOUNT out", []),
    ("PFCOUNT in:a out", None),
    ("FT.CREATE index ON HASH", ["FT.CREATE index ON HASH"]),
    ("MOVABLE in:a", None),
    ("GEORADIUS in:a 1 2 3 m STOREDIST in:b", ["GEORADIUS in:a 1 2 3 m STOREDIST in:b"]),
    ("XGROUP CREATE in:a g 0", ["XGROUP CREATE in:a g 0"]),
    ("XGROUP CREATE out g 0", []),
    ("SOMETHING.NEW in:a", None),
]


PLACES = {b"PFCOUNT": (1, -1, 1), b"FT.CREATE": (0, 0, 1), b"VADD": (1, 1, 1)}


@pytest.mark.parametrize(("text", "left"), DIVIDED)
def test_what_is_left_of_commands_with_several_keys(text: str, left: list[str] | None) -> None:
    found = divide(text.encode().split(), takes, PLACES)
    assert found == (None if left is None else [line.encode().split() for line in left])


def translator(spec: FilterSpec = RULES, databases: dict[int, int] | None = None, **more: Any) -> Translator:
    clock = Clock(0, now_ms=lambda: 0)
    rewriter = Rewriter(Scope(databases, spec), clock, 0, lambda _: [], lambda *_: None, lambda *_: None, **more)
    return Translator(0, 0, rewriter)


def said(made: Translator, *lines: str) -> list[str]:
    """What the target gets for these commands; `!...` stands for one that is not sent, its keys copied anew."""
    data = b"".join(encode(line.encode().split()) for line in lines)
    made.feed(Block(made.offset, 1_000_000, 0, REPLID, data))
    window = made.take()
    assert window is not None
    assert window.end == made.offset
    return [_shown(window, i) for i in range(window.commands)]


def _shown(window: Window, index: int) -> str:
    argv, _ = window.command(index)
    return ("!" if window.stands_in(index) else "") + b" ".join(argv).decode()


def test_a_stream() -> None:
    made = translator()
    assert said(made, "SET in:a 1", "SET out 1", "INCR in:not", "LPUSH in:l a b", "DEL out", "DEL in:a out") == [
        "SET in:a 1", "LPUSH in:l a b", "DEL in:a",
    ]  # fmt: skip
    assert said(made, "SET out 1", "PING") == []
    assert said(made, "SELECT 3", "SET in:a 1", "SET x 1", "SELECT 0", "SET in:a 2") == [
        "SELECT 3", "SET x 1", "SELECT 0", "SET in:a 2",
    ]  # fmt: skip


def test_transactions_keep_what_is_in_scope() -> None:
    made = translator()
    assert said(made, "MULTI", "INCR in:a", "INCR out", "RPOPLPUSH out in:b", "INCR in:a", "EXEC") == [
        "INCR in:a", "!RPOPLPUSH out in:b", "INCR in:a",
    ]  # fmt: skip
    assert said(made, "MULTI", "INCR out", "EXEC", "INCR in:a") == ["INCR in:a"]


def test_commands_with_times() -> None:
    made = translator()
    assert said(made, "PEXPIREAT out 99999999999", "SET out 1 PXAT 99999999999", "HPEXPIREAT out 9 FIELDS 1 f") == []
    assert [line.split()[:2] for line in said(made, "PEXPIREAT in:a 99999999999", "RESTORE out 0 x")] == [
        ["PEXPIREAT", "in:a"]
    ]
    assert said(made, "MSETEX 2 in:a 1 out 2 PXAT 99999999999") == ["!MSETEX 2 in:a 1 out 2 PXAT 99999999999"]
    assert said(made, "MSETEX 1 out 2 PXAT 99999999999") == []
    assert len(said(made, "MSETEX 2 in:a 1 in:b 2 PXAT 99999999999")) == 2


def test_keys_that_come_in_and_go_out() -> None:
    made = translator()
    assert said(made, "RENAME in:a in:b") == ["RENAME in:a in:b"]
    assert said(made, "RENAME in:a out", "COPY in:a out", "RENAME out other", "MOVE in:a 3") == ["UNLINK in:a"] * 2
    assert said(made, "RENAME out in:a", "COPY out in:b REPLACE", "SELECT 3", "MOVE in:x 0") == [
        "!RESTORE in:a", "!RESTORE in:b", "!RESTORE in:x",
    ]  # fmt: skip
    assert said(made, "SELECT 3", "COPY x in:x DB 0", "COPY x y") == ["SELECT 3", "COPY x in:x DB 0", "COPY x y"]


def test_scripts_that_a_source_sends() -> None:
    made = translator()
    assert said(made, "EVAL return 1 out") == []
    assert said(made, "EVAL x 2 in:a out v", "EVAL x 1 in:a") == ["!EVAL x 2 in:a out v", "!EVAL x 1 in:a"]
    with pytest.raises(Wanted):
        said(made, "EVAL x 0")


@pytest.mark.parametrize("line", ["FLUSHALL", "FLUSHDB", "SWAPDB 0 9", "SWAPDB 9 0"])
def test_what_concerns_whole_databases_takes_a_full_sync_in_place(line: str) -> None:
    with pytest.raises(Wanted):
        said(translator(databases={0: 0}), line)


def test_of_databases_out_of_scope_it_does_not() -> None:
    assert said(translator(databases={0: 0}), "SELECT 9", "FLUSHDB", "SWAPDB 8 9") == []
    assert said(translator(FilterSpec(block_commands=["flushdb"]), {0: 0}), "FLUSHDB") == []


def test_databases_that_are_merged() -> None:
    made = translator(FilterSpec(), {0: 4, 1: 4, 2: 5})
    assert said(made, "SET a 1", "SELECT 1", "SET b 1", "SELECT 2", "SET c 1") == [
        "SELECT 4", "SET a 1", "SET b 1", "SELECT 5", "SET c 1",
    ]  # fmt: skip
    assert said(made, "SELECT 1", "MOVE b 0", "COPY b a DB 0", "MOVE b 2") == [
        "SELECT 4", "COPY b a DB 4", "MOVE b 5",
    ]  # fmt: skip
    assert said(made, "SELECT 2", "FLUSHDB") == ["SELECT 5", "FLUSHDB"]
    assert said(made, "FLUSHALL") == ["SELECT 4", "FLUSHDB", "SELECT 5", "FLUSHDB"]
    for line in ("SWAPDB 0 2", "SWAPDB 2 1", "SWAPDB 0 1"):
        with pytest.raises(Wanted):
            said(translator(FilterSpec(), {0: 4, 1: 4, 2: 5}), line)
    with pytest.raises(Wanted):
        said(translator(FilterSpec(), {0: 4, 1: 4, 2: 5}), "SELECT 1", "FLUSHDB")


def test_blocked_commands_do_not_travel_alone_or_in_a_transaction() -> None:
    made = translator(FilterSpec(block_commands=["incr", "RENAME", "set"]))
    assert made.rewriter.stands_for([b"RENAME", b"out", b"a"], 0) is None
    alone = said(made, "INCR a", "SET a 1", "set a 1 EX 5", "DECR a", "RENAME a b")
    assert alone + said(made, "MULTI", "INCR a", "DEL b", "EXEC") == ["DECR a", "DEL b"]


def test_what_the_target_says_of_commands_is_believed() -> None:
    made = translator(knows=Knows(places=PLACES))
    assert said(made, "VADD out VALUES 1 1 e", "VADD in:a VALUES 1 1 e", "FT.CREATE i", "PFCOUNT out", "NEW in:a") == [
        "VADD in:a VALUES 1 1 e", "FT.CREATE i", "!NEW in:a",
    ]  # fmt: skip


def test_of_what_is_not_sent_only_what_it_writes_is_copied_anew() -> None:
    made = translator()
    for line, keys in [
        ("BITOP OR in:small in:large out", {(0, b"in:small")}), ("RPOPLPUSH out in:a", {(0, b"in:a")}),
        ("MOVE in:x 0", {(0, b"in:x")}), ("RENAME out in:b", {(0, b"in:b")}), ("SOMETHING.NEW in:a", set()),
    ]:  # fmt: skip
        db = 3 if line.startswith("MOVE") else 0
        assert made.rewriter.stands_for(line.encode().split(), db) == keys, line


@pytest.mark.parametrize("text", ["RPOPLPUSH a", "EVAL x y", "ZUNIONSTORE in:a z", "SORT in:a BY"])
def test_what_makes_no_sense_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        said(translator(), text)


def test_bytes_that_others_stand_for_count() -> None:
    made = translator()
    large = "v" * 50_000
    data = b"".join(encode([b"NEW", b"in:%d" % i, large.encode()]) for i in range(10))
    made.feed(Block(0, 1_000_000, 0, REPLID, data))
    assert len(made.full) >= 3, "a window is full of them, too"


def test_who_takes_over_knows_which_commands_were_not_sent() -> None:
    made = translator()
    for line, stood in [
        ("RENAME out in:a", True), ("RENAME in:a out", False), ("RENAME in:a in:b", False), ("COPY out in:a", True),
        ("RPOPLPUSH out in:a", True), ("RPOPLPUSH in:a out", False), ("SET in:a 1", False), ("DEL in:a out", False),
        ("SOMETHING.NEW x", True), ("EVAL x 2 in:a out", True), ("EVAL x 1 in:a", True), ("EVAL x 1 out", False),
        ("MSETEX 2 in:a 1 out 2", True), ("FLUSHDB", False),
    ]:  # fmt: skip
        assert (made.rewriter.stands_for(line.encode().split(), 0) is not None) is stood, line
    assert REFUSED[0] == b"INCRBY"


class Walked:
    """The target's expiries, as far as a search asks."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def databases(self, _scope: Scope) -> list[int]:
        return [5]

    def scan(self, _db: int, _cursor: int, _count: int) -> tuple[int, list[bytes]]:
        return 0, [b"in:a", b"theirs", b"in:not", b"keyferry:ck"]

    def read(self, _db: int, keys: list[bytes]) -> list[Any]:
        self.asked += keys
        return []


def test_expiries_of_keys_that_are_somebody_elses_are_left_alone() -> None:
    walked = Walked()
    search = Search(walked, Scope({0: 5}, RULES), True, None)  # type: ignore[arg-type]
    search.again(0, every=True)
    search.step(1)
    assert walked.asked == [b"in:a"]
