"""Answers of a target: one by one and those of a transaction, read once they are whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_tasks.errors import Malformed
from tests.unit.codec.forms import form
from tests.unit.codec.wire import FORMS, REPLIES, SIMPLE, Error, Reply, answer, meaning, shown


@settings(max_examples=150)
@given(REPLIES)
def test_a_reply_is_read_once_it_is_whole(value: Reply) -> None:
    data = answer(value)
    for name in FORMS:
        resp = form(name).resp
        got, end = resp.parse(b"??" + data + b"+next\r\n", 2)
        assert (shown(got), end) == (meaning(value), 2 + len(data))
        assert resp.replies(data * 2, 0, 2)[0] == 2 * len(data)
        for place in range(len(data)):
            assert resp.parse(data[:place], 0) == (None, -1)
            assert resp.replies(data[:place], 0, 1)[0] == -1


@settings(max_examples=150)
@given(
    st.lists(REPLIES, min_size=2, max_size=2),
    st.lists(st.one_of(st.just(("+", b"QUEUED")), SIMPLE.map(Error)), max_size=4),
    st.data(),
)
def test_a_transaction_is_found_once_it_is_whole(before: list[Reply], queued: list[Reply], data: st.DataObject) -> None:
    results = [data.draw(REPLIES) for _ in queued]
    last = data.draw(st.sampled_from([None, Error(b"EXECABORT no"), results]))
    nil = b"*-1\r\n" if last is None else answer(last)
    said = b"".join(map(answer, [*before, ("+", b"OK"), *queued])) + nil
    gate = {i: b"-" + line for i, line in enumerate(before) if isinstance(line, Error)}
    refused = {i: b"-" + line for i, line in enumerate(queued) if isinstance(line, Error)}
    failed = {i: b"-" + line for i, line in enumerate(results) if isinstance(line, Error)} if last is results else {}
    for name in FORMS:
        resp = form(name).resp
        outcome = resp.NIL if last is None else resp.COMMITTED if last is results else resp.ABORTED
        if isinstance(last, Error):
            refused[len(queued)] = b"-" + last
        found = resp.transaction(b"?" + said + b"+next", 1, 2, len(queued))
        assert found == (1 + len(said), outcome, gate, refused, failed)
        for place in range(len(said)):
            assert resp.transaction(said[:place], 0, 2, len(queued))[0] == -1


@pytest.mark.parametrize(
    "data",
    [
        b"+OK\r\n*1\r\n:1\r\n",
        b"+OK\r\n*3\r\n:1\r\n:2\r\n:3\r\n",
        b"+OK\r\n*0\r\n",
        b"+OK\r\n$2\r\nab\r\n",
        b"+OK\r\n:1\r\n",
    ],
)
def test_exec_must_answer_every_command(codec: Any, data: bytes) -> None:
    """A target that says less, or more, is not one: what was committed is unknown, and nothing is read behind it."""
    with pytest.raises(Malformed):
        codec.resp.transaction(data.replace(b"+OK\r\n", b"+OK\r\n+QUEUED\r\n+QUEUED\r\n"), 0, 0, 2)
