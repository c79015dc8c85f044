"""Where the key of a command stands."""

from __future__ import annotations

from workers.verify.routing import cut, unpacked
from workers.verify.wire import arg, pack


def test_each_command_is_cut_out_with_its_key() -> None:
    commands = [
        pack(b"DUMP", b"a\r\n*1\r\n$4\r\nTIME\r\n"),
        pack(b"MEMORY", b"USAGE", b"", b"SAMPLES", b"8192"),
        pack(b"TIME"),
        pack(b"XINFO", b"STREAM", b"x", b"FULL"),
        pack(b"SCAN", b"0", b"COUNT", b"10"),
        pack(b"DEBUG", b"OBJECT", b"d"),
        pack(b"HPEXPIRETIME", b"h", b"FIELDS", b"1", b"f"),
        pack(b"FUNCTION", b"LIST", b"WITHCODE"),
    ]
    raws, keys = cut(b"".join(commands))
    assert raws == commands
    assert keys == [b"a\r\n*1\r\n$4\r\nTIME\r\n", b"", None, b"x", None, b"d", b"h", None]
    assert cut(b"") == ([], [])


def test_a_packed_key_is_unpacked() -> None:
    for key in (b"", b"a", b"\r\n", b"$3\r\nabc\r\n" * 5):
        assert unpacked(arg(key)) == key
