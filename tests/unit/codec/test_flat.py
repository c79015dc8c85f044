"""Commands as arguments of one script, whatever the pieces they come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_tasks.errors import Malformed
from workers.codec.flat_cy import Flat
from workers.codec.resp_cy import ABORTED, COMMITTED, WHOLE, encode, transaction
from workers.target.scripted import scripted, scripted_pieces

COMMANDS = st.lists(st.lists(st.binary(max_size=30), min_size=1, max_size=12), min_size=1, max_size=12)


def bulks(commands: list[list[bytes]]) -> list[bytes]:
    return [word for argv in commands for word in (b"%d" % len(argv), *argv)]


@given(COMMANDS, st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_each_command_is_its_number_of_arguments_and_then_these(commands: list[list[bytes]], cuts: list[int]) -> None:
    body, flat, out, at = b"".join(map(encode, commands)), Flat(), b"", 0
    pieces = []
    while at < len(body):
        size = cuts[at % len(cuts)]
        pieces.append(body[at : at + size])
        out += flat.feed(pieces[-1])
        at += size
    want = bulks(commands)
    assert flat.whole
    assert (flat.count, out) == (len(want), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in want))
    assert b"".join(scripted_pieces(iter(pieces), iter(pieces), b"ck")) == scripted(body, b"ck")


@pytest.mark.parametrize("body", [b"+OK\r\n", b"*0\r\n", b"*x\r\n", b"*1\r\n*1\r\n", b"*" + b"1" * 20 + b"\r\n"])
def test_what_is_no_command_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        Flat().feed(body)


def test_the_answers_of_a_script_count_as_those_of_its_commands() -> None:
    data = b"+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*3\r\n:1\r\n-ERR x\r\n*1\r\n-ERR inner\r\n-ERR tail\r\n"
    assert transaction(data, 0, 1, 4, 3) == (len(data), COMMITTED, {}, {}, {1: b"-ERR x", 3: b"-ERR tail"})
    for end in range(len(data)):
        assert transaction(data[:end], 0, 1, 4, 3)[0] == -1
    data = b"+OK\r\n+OK\r\n-MOVED 1 h:1\r\n-ERR y\r\n-EXECABORT z\r\n"
    assert transaction(data, 0, 1, 4, 3) == (len(data), ABORTED, {}, {4: b"-MOVED 1 h:1", 3: b"-ERR y"}, {})
    with pytest.raises(Malformed, match="as many replies"):
        transaction(b"+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*1\r\n:1\r\n+OK\r\n", 0, 1, 4, 3)


def test_a_script_that_fails_has_done_none_of_its_commands() -> None:
    data = b"+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n-ERR broken\r\n-ERR tail\r\n"
    failed = {**dict.fromkeys((WHOLE, 0, 1, 2), b"-ERR broken"), 3: b"-ERR tail"}
    assert transaction(data, 0, 1, 4, 3) == (len(data), COMMITTED, {}, {}, failed)
