"""Long values of replies are set aside, wherever the bytes are cut; all else is passed on as it came."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_tasks.errors import Malformed
from workers import aside as module
from workers.aside import Aside
from workers.codec.resp_cy import parse

LONG = bytes(range(256)) + b"\r\n$5\r\n"
REPLIES = (
    b"+OK\r\n*5\r\n$3\r\nabc\r\n$-1\r\n" + b"$%d\r\n%b\r\n" % (len(LONG), LONG) + b":7\r\n$0\r\n\r\n-ERR $9\r\n"
    + b"$%d\r\n%b\r\n" % (len(LONG) * 2, LONG * 2) + b"$16\r\n0123456789abcdef\r\n"
)  # fmt: skip


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100, 10_000])
def test_long_values_are_set_aside(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONG_BYTES", len(LONG) - 1)
    aside = Aside(tmp_path)
    data = b"".join(aside.feed(REPLIES[at : at + step]) for at in range(0, len(REPLIES), step))
    found, pos = [], 0
    while pos < len(data):
        value, pos = parse(data, pos)
        found.append(value)
    (ok, (short, none, first, number, empty), error, second, other) = found
    assert (ok, short, none, number, empty, error.line) == (b"OK", b"abc", None, 7, b"", b"ERR $9")
    assert other == b"0123456789abcdef"
    kept = [aside.values.pop(token) for token in (first, second)]
    assert [b"".join(one.read(0, one.size)) for one in kept] == [LONG, LONG * 2]
    assert b"".join(kept[1].read(10, 300)) == (LONG * 2)[10:310]
    assert not aside.values
    assert list(tmp_path.iterdir()) == [], "its file has no name"


def test_what_is_no_reply(tmp_path: Path) -> None:
    with pytest.raises(Malformed):
        Aside(tmp_path).feed(b"$x\r\n")
