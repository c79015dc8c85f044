"""Function libraries that every node of a source cluster brings: any order of their streams ends the same."""

from __future__ import annotations

import itertools

import pytest
import redis

from tests.servers import StartServer
from workers.libraries import repeatable

CODE = b"#!lua name=%b\nredis.register_function('f_%b', function() return %d end)"
STREAM = (
    [b"FUNCTION", b"LOAD", CODE % (b"kept", b"kept", 1)],
    [b"FUNCTION", b"LOAD", CODE % (b"gone", b"gone", 1)],
    [b"FUNCTION", b"LOAD", b"REPLACE", CODE % (b"kept", b"kept", 2)],
    [b"FUNCTION", b"DELETE", b"gone"],
)


def test_streams_in_any_order_end_the_same(server: StartServer) -> None:
    """As they are, the second stream's commands would be refused."""
    client = server("redis-7.0").client()
    for order in set(itertools.permutations([0, 1] * len(STREAM), 2 * len(STREAM))):
        client.function_flush()
        done = [0, 0]
        for stream in order:
            for command in repeatable(STREAM[done[stream]]):
                client.execute_command(*command)
            done[stream] += 1
        assert [library[1] for library in client.function_list()] == [b"kept"]
        assert client.fcall("f_kept", 0) == 2


def test_a_dump_is_restored_over_what_is_there(server: StartServer) -> None:
    client = server("redis-7.0").client()
    client.function_load(CODE % (b"kept", b"kept", 1))
    dump = client.function_dump()
    with pytest.raises(redis.ResponseError):
        client.execute_command("FUNCTION", "RESTORE", dump)
    for given in ([b"FUNCTION", b"RESTORE", dump], [b"FUNCTION", b"RESTORE", dump, b"APPEND"]):
        for command in repeatable(given):
            client.execute_command(*command)
    flush = [b"FUNCTION", b"RESTORE", dump, b"FLUSH"]
    assert repeatable(flush) == [flush]


def test_other_commands_are_as_they_are() -> None:
    for command in ([b"SCRIPT", b"LOAD", b"x"], [b"FUNCTION", b"FLUSH"], [b"FUNCTION", b"FLUSH", b"ASYNC"]):
        assert repeatable(command) == [command]
