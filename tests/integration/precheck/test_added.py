"""What is added to a task that has begun is looked at first: what stands against it, and what is the task's own."""

from __future__ import annotations

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError, Side
from sync_tasks.extent import Extent
from sync_tasks.keyfilter import FilterSpec
from sync_tasks.precheck import added
from sync_tasks.precheck.scene import Route, Scene
from sync_tasks.spec import TaskSpec
from tests.dataset import sibling
from tests.servers import Server, StartServer

PLAIN = FilterSpec()
ONE = Extent.of({0: 0}, PLAIN)


@pytest.fixture
def pair(server: StartServer) -> tuple[Server, Server]:
    return server("redis-7.0"), server("redis-7.0")


def looked(
    pair: tuple[Server, Server],
    databases: dict[int, int] | None,
    keys: FilterSpec = PLAIN,
    *before: Extent,
    mode: str = "precheck-and-report",
    others: tuple[Route, ...] = (),
) -> list[str]:
    spec = TaskSpec.model_validate({"conflict_mode": mode, "databases": databases, "filter": keys.model_dump()})
    ends = Endpoint.parse(pair[0].url(), Side.SOURCE), Endpoint.parse(pair[1].url(), Side.TARGET)
    scene = Scene(*ends, spec, databases, others=others)
    return added.look(scene, Extent.of(databases, keys), before or (ONE,))


def refused(*args: object, **kw: object) -> str:
    with pytest.raises(KeyferryError) as caught:
        looked(*args, **kw)  # type: ignore[arg-type]
    return caught.value.code


def test_keys_of_others_stand_against_it(pair: tuple[Server, Server]) -> None:
    client = pair[1].client()
    client.set("brought", 1)
    assert looked(pair, {0: 0, 2: 2}) == [], "what is copied already is the task's own"
    sibling(client, 2).set("keyferry:0123456789abcdef:x", 1)
    assert looked(pair, {0: 0, 2: 2}) == []
    sibling(client, 2).set("foreign", 1)
    assert refused(pair, {0: 0, 2: 2}) == "target-not-empty"
    assert looked(pair, {0: 0, 3: 3}) == [], "only what is added is looked at"
    assert looked(pair, {0: 0, 2: 2}, mode="ignore-and-proceed") == []
    assert looked(pair, {0: 0, 2: 2}, PLAIN, ONE, Extent.of({2: 2}, PLAIN)) == [], "the task had brought it"
    assert refused(pair, {0: 0, 2: 2}, PLAIN, ONE, Extent.of({2: 3}, PLAIN)) == "target-not-empty"


def test_keys_that_a_filter_did_not_take(pair: tuple[Server, Server]) -> None:
    before = Extent.of({0: 0}, FilterSpec(allow_prefixes=["a"]))
    pair[1].client().mset({"a1": 1, "c1": 1})
    wider = FilterSpec(allow_prefixes=["a", "b"])
    assert looked(pair, {0: 0}, wider, before) == []
    pair[1].client().set("b1", 1)
    assert refused(pair, {0: 0}, wider, before) == "target-not-empty"


def test_a_database_too_large_to_be_looked_at(pair: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(added, "FOR_S", 0.0)
    pair[1].client().mset({f"a{number}": 1 for number in range(5000)})
    before = Extent.of({0: 0}, FilterSpec(allow_prefixes=["a"]))
    (said,) = looked(pair, {0: 0}, FilterSpec(allow_prefixes=["a", "b"]), before)
    assert "too large" in said


def test_what_stands_against_a_start_stands_against_it(pair: tuple[Server, Server]) -> None:
    source, target = (Endpoint.parse(one.url(), Side.SOURCE).identity() for one in pair)
    assert refused(pair, {0: 0, 2: 2}, others=(Route("back", target, source, {2: 2}),)) == "loop"
    assert refused(pair, {0: 0, 200: 2}) == "no-such-database"
    pair[0].client().set("same", 1)
    sibling(pair[0].client(), 2).set("same", 1)
    assert refused(pair, {0: 0, 2: 0}) == "shared-keys"
