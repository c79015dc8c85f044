"""The scripts of docs/transforms.md, as they stand there; and where keys stand in commands."""

from __future__ import annotations

import re

import pytest

from sync_tasks.slots import slot
from sync_tasks.transform.places import places
from sync_tasks.transform.script import Script
from tests.pages import DOCS

TEXT = (DOCS / "transforms.md").read_text()
Line = tuple[int | None, str]
RECIPES: list[tuple[str, str, list[Line] | None]] = [
    ("Rename a prefix", "RENAME user:1 other", [(None, "RENAME u:1 other")]),
    ("Rename a prefix", "ZUNIONSTORE user:a 2 user:b c", [(None, "ZUNIONSTORE u:a 2 u:b c")]),
    ("Rename a prefix", "SET x user:1", None),
    ("Rename a prefix", "FLUSHALL", None),
    ("Drop by prefix", "SET cache:1 x", []),
    ("Drop by prefix", "SET other cache:1", None),
    ("Drop by prefix", "FLUSHALL", None),
    ("Mask a field", "HSET h name a email b@c", [(None, "HSET h name a email ***")]),
    ("Mask a field", "HSET h email_ b@c", None),
    ("Mask a field", "HDEL h email", None),
    ("Split one command", "SET user:1 x", [(None, "SET user:1 x"), (None, "SADD users user:1")]),
    ("Split one command", "DEL a b", [(None, "DEL a b"), (None, "SREM users a"), (None, "SREM users b")]),
    ("Route to another", "SET session:1 x", [(5, "SET session:1 x")]),
    ("Route to another", "SET user:1 x", None),
]


@pytest.mark.parametrize(("recipe", "command", "becomes"), RECIPES, ids=[f"{r[0]} {r[1]}" for r in RECIPES])
def test_recipes(recipe: str, command: str, becomes: list[Line] | None) -> None:
    lua = TEXT.partition(f"\n{recipe}")[2].partition("```lua\n")[2].partition("```")[0]
    found = Script(lua).run(0, command.encode().split())
    assert found == (None if becomes is None else [(db, line.encode().split()) for db, line in becomes])


def test_every_script_of_the_page_compiles() -> None:
    scripts = re.findall(r"```lua\n(.*?)```", TEXT, re.DOTALL)
    assert len(scripts) == 6
    for lua in scripts:
        Script(lua)


@pytest.mark.parametrize(
    ("command", "at"),
    [
        ("SET a 1", [1]), ("DEL a b c", [1, 2, 3]), ("MSET a 1 b 2", [1, 3]), ("msetex 2 a 1 b 2 PX 5", [2, 4]),
        ("RENAME a b", [1, 2]), ("COPY a b DB 1", [1, 2]), ("MOVE a 3", [1]), ("SMOVE a b m", [1, 2]),
        ("BITOP AND d a b", [2, 3, 4]), ("XGROUP CREATE s g 0", [2]), ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", [1, 3, 4]),
        ("SORT a LIMIT 0 1 STORE d", [1, 6]), ("GEORADIUS a 1 2 3 m STOREDIST d", [1, 7]), ("FLUSHALL", []),
        ("SWAPDB 0 1", []), ("SOME.MODULE k x", [1]), ("PFMERGE d a b", [1, 2, 3]), ("ZRANGESTORE d a 0 1", [1, 2]),
    ],
)  # fmt: skip
def test_where_keys_stand(command: str, at: list[int]) -> None:
    assert places(command.encode().split()) == at


def test_slots_are_those_of_a_cluster() -> None:
    # Of the cluster specification, and CLUSTER KEYSLOT.
    assert slot(b"123456789") == 12739
    assert slot(b"{user1000}.following") == slot(b"user1000") == slot(b"x{user1000}y{z}")
    assert slot(b"foo{}{bar}") == 8363
    assert slot(b"foo{{bar}}zap") == slot(b"{bar")
