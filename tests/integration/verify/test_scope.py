"""Which databases and what besides keys is compared."""

from __future__ import annotations

import time

from sync_tasks.keyfilter import FilterSpec
from tests.dataset import LIBRARY, sibling
from tests.integration.verify.copies import compare, follow, found, wait_until
from tests.servers import StartServer


def test_every_database_of_either_side_is_in_scope(server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    sibling(source.client(), 3).set("a", 1)
    sibling(target.client(), 9).set("a", 1)

    keys = compare(source, target)["keys"]

    assert [(item["db"], item["kind"]) for item in keys] == [(3, "missing"), (9, "extra")]


def test_databases_may_go_elsewhere_and_others_are_no_matter(server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    sibling(source.client(), 1).set("a", 1)
    sibling(source.client(), 2).set("not in scope", 1)
    sibling(target.client(), 5).set("a", 1)
    sibling(target.client(), 5).set("b", 1)
    sibling(target.client(), 1).set("not in scope", 1)

    report = compare(source, target, databases={1: 5})

    assert report["compared"] == 1
    assert [(item["db"], item["key"], item["kind"]) for item in report["keys"]] == [(1, "b", "extra")]


def test_keys_may_be_out_of_scope(server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    for client, value in ((source.client(), "ours"), (target.client(), "theirs")):
        client.mset({f"out:{i}": value for i in range(3000)})
        client.mset({"in:same": 1, "in:other": value})
    source.client().set("out:missing", 1)
    target.client().set("out:extra", 1)
    target.client().set("in:extra", 1)

    spec = FilterSpec(allow_prefixes=["in:"])
    report = compare(source, target, filter_spec=spec)
    assert report["compared"] == 2
    assert sorted(found(report)) == [("in:extra", "extra", None), ("in:other", "value", "byte 0")]
    both = FilterSpec(block_prefixes=["out:", "in:"])
    assert (compare(source, target, filter_spec=both)["compared"], compare(source, target)["compared"]) == (0, 3003)


def test_a_database_that_one_side_does_not_have(server: StartServer) -> None:
    source, target = server("redis-7.0", config={"databases": "32"}), server("redis-7.0")
    sibling(source.client(), 20).set("a", 1)

    there, back = compare(source, target), compare(target, source)

    assert found(there) == [("a", "missing", None)]
    assert there["compared"] == 1
    assert found(back) == [("a", "extra", None)]


def test_a_database_that_is_filled_meanwhile_is_compared_too(server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().set("a", 1)
    target.client().set("a", 1)

    def progress(phase: str, done: int, total: int) -> None:
        sibling(source.client(), 4).set("late", 1)

    assert found(compare(source, target, progress=progress)) == [("late", "missing", None)]


def test_function_libraries_are_compared(server: StartServer) -> None:
    source, target = server("redis-7.0"), server("valkey-8.1")
    for client in (source.client(), target.client()):
        for name in ("same", "changed"):
            client.execute_command("FUNCTION", "LOAD", LIBRARY.format(name=name))
    assert compare(source, target)["keys"] == []
    target.client().execute_command("FUNCTION", "LOAD", "REPLACE", LIBRARY.format(name="changed") + "\n-- more")
    source.client().execute_command("FUNCTION", "LOAD", LIBRARY.format(name="lost"))
    target.client().execute_command("FUNCTION", "LOAD", LIBRARY.format(name="foreign"))

    report = compare(source, target)

    assert found(report) == [(name, "value", "functions") for name in ("changed", "foreign", "lost")]
    assert report["value"] == 3


def test_function_libraries_are_no_matter_to_a_side_that_knows_none(server: StartServer) -> None:
    source, target = server("redis-6.2"), server("redis-7.0")
    target.client().execute_command("FUNCTION", "LOAD", LIBRARY.format(name="foreign"))

    assert compare(source, target)["keys"] == []


def test_a_key_that_a_source_replica_only_hides_is_not_extra(server: StartServer) -> None:
    """Its master has not deleted it yet, so nobody was told to: the target is right to hold it."""
    master, source, target = server("redis-7.0"), server("redis-7.0"), server("redis-7.0")
    master.client().execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    moment = time.time_ns() // 1_000_000 + 400
    for name in ("a", "b"):
        master.client().set(name, 1, pxat=moment)
    follow(master, source)
    target.client().set("a", 1, pxat=moment + 600_000)
    target.client().set("b", 1)  # never had an expiry: nothing excuses it
    wait_until(lambda: source.client().exists("a", "b") == 0)

    assert found(compare(source, target)) == [("b", "extra", None)]
