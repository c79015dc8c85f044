"""Whether two values that DUMP gave are the same, in whatever form and order their servers hold them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from hashlib import blake2b
from io import BytesIO

from sync_tasks.errors import Malformed
from workers.aside import Kept
from workers.building import Payload
from workers.codec import can_piece, pieces
from workers.codec.programs import TIMED_HASHES

FOOTER = 10
"""Bytes of a payload behind its value: version, and CRC-64."""
SUM = 1 << 128
Sketch = tuple[bytes, int, bytes]
"""The command that builds it, a sum over what has no order, a digest of what has one."""


def alike(one: bytes | Kept | None, other: bytes | Kept | None, later_ms: Sequence[int] = (0,)) -> bool:
    """Whether they are the same; of streams and modules' values, whether they are the same bytes.

    Args:
        one, other: payloads; None: no such key.
        later_ms: what the fields of the other one, if it is a hash, may expire later.
    """
    if one is None or other is None:
        return one is other
    if isinstance(one, bytes) and isinstance(other, bytes) and one[:-FOOTER] == other[:-FOOTER]:
        return True
    kinds = [_opened(value)[0] for value in (one, other)]
    if not all(map(can_piece, kinds)):
        return isinstance(one, Kept) and isinstance(other, Kept) and _same_bytes(one, other)
    try:
        there = sketch(other)
        return any(sketch(one, later) == there for later in (later_ms if kinds[0] in TIMED_HASHES else (0,)))
    except Malformed:
        return False


def sketch(value: bytes | Kept, later_ms: int = 0) -> Sketch:
    """What stands for a value. Raises Malformed.

    Args:
        later_ms: added to the expiries of a hash's fields.
    """
    kind, version, read = _opened(value)
    family, total, ordered = b"", 0, blake2b(digest_size=16)
    for name, args in pieces(read, kind, field_hold=later_ms, source=version):
        family = family or name
        if name == b"APPEND":  # a string comes in any pieces
            ordered.update(args[0])
        elif name == b"RPUSH":
            for item in args:
                ordered.update(struct.pack("<Q", len(item)) + item)
        elif name == b"SADD":
            total += sum(_number(item) for item in args)
        elif name == b"HSET":
            total += sum(map(_number, args[::2], args[1::2]))
        elif name == b"ZADD":
            scores = (struct.pack("<d", float(score)) for score in args[::2])
            total += sum(map(_number, scores, args[1::2]))
        else:  # HPEXPIREAT time FIELDS count field ...
            total += sum(_number(b"expires", args[0], field) for field in args[3:])
    return family, total % SUM, ordered.digest()


def _opened(value: bytes | Kept) -> tuple[int, int, Callable[[int], bytes]]:
    if isinstance(value, Kept):
        payload = Payload(0, value.size, value.read)
        return payload.kind, payload.version, payload.read
    return value[0], int.from_bytes(value[-FOOTER : 2 - FOOTER], "little"), BytesIO(value[1:-FOOTER]).read


def _number(*parts: bytes) -> int:
    found = blake2b(struct.pack(f"<{len(parts)}Q", *map(len, parts)), digest_size=16)
    for part in parts:
        found.update(part)
    return int.from_bytes(found.digest(), "little")


def _same_bytes(one: Kept, other: Kept) -> bool:
    size = one.size - FOOTER
    pairs = zip(one.read(0, size), other.read(0, size), strict=False)
    return one.size == other.size and all(a == b for a, b in pairs)
