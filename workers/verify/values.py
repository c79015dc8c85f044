"""Small values of every type: how to read one in one command, and what counts as the same.

Each type has a canonical form that does not depend on encoding or version, so that a hash table and a
listpack of the same fields are equal.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from workers.verify.streams import Counters, Stream, differing_part, read_stream
from workers.verify.wire import Refusal, arg, head

FOOTER = 10  # bytes at the end of a DUMP: RDB version and checksum

DUMP = head(2, b"DUMP")


@dataclass(frozen=True, slots=True)
class Kind:
    """How one type is read and compared.

    Args:
        beginning, end: the reading command around the packed key.
        canonical: from its answer to something comparable.
        difference: from two canonical values that differ to the name of the part that does.
        parts: from a canonical value to bytes that tell it from all others.
    """

    beginning: bytes
    end: bytes
    canonical: Callable[[Any], Any]
    difference: Callable[[Any, Any], bytes | None]
    parts: Callable[[Any], Iterable[bytes]]


def score(text: bytes) -> bytes:
    """A score's 64 bits: 0 and -0 differ, and the digits that a version prints do not matter."""
    return struct.pack(">d", float(text))


def _pairs(flat: list[Any]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _scores(flat: list[bytes]) -> dict[bytes, bytes]:
    return {member: score(text) for member, text in zip(flat[::2], flat[1::2], strict=True)}


def _first_byte(a: bytes, b: bytes) -> bytes:
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return b"byte %d" % at


def _first_index(a: list[bytes], b: list[bytes]) -> bytes:
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return b"index %d" % at


def _first_member(a: frozenset[bytes], b: frozenset[bytes]) -> bytes:
    return min(a ^ b)


def _first_field(a: dict[bytes, Any], b: dict[bytes, Any]) -> bytes:
    return min(field for field in a.keys() | b.keys() if a.get(field) != b.get(field))


def _flat(table: dict[bytes, bytes]) -> Iterable[bytes]:
    return (part for pair in sorted(table.items()) for part in pair)


def _payload(answer: bytes) -> bytes:
    return answer[:-FOOTER]


KINDS: dict[bytes, Kind] = {
    b"string": Kind(head(2, b"GET"), b"", bytes, _first_byte, lambda value: (value,)),
    b"list": Kind(head(4, b"LRANGE"), arg(b"0") + arg(b"-1"), list, _first_index, lambda items: items),
    b"set": Kind(head(2, b"SMEMBERS"), b"", frozenset, _first_member, sorted),
    b"zset": Kind(head(5, b"ZRANGE"), arg(b"0") + arg(b"-1") + arg(b"WITHSCORES"), _scores, _first_field, _flat),
    b"hash": Kind(head(2, b"HGETALL"), b"", _pairs, _first_field, _flat),
    b"stream": Kind(
        head(6, b"XINFO", b"STREAM"),
        arg(b"FULL") + arg(b"COUNT") + arg(b"0"),
        read_stream,
        differing_part,
        Stream.parts,
    ),
}

MODULE = Kind(DUMP, b"", _payload, lambda _a, _b: b"payload", lambda payload: (payload,))
"""Types of modules: only their payload can be read."""


def kind_of(type_name: bytes) -> Kind:
    return KINDS.get(type_name, MODULE)


def canonical(kind: Kind, answer: Any, counters: Counters) -> Any:
    """The canonical value of a reading command's answer; None when the key is gone or has another type.

    Args:
        counters: which counters of streams are part of the value.
    """
    if answer is None or isinstance(answer, Refusal) or answer == []:
        return None
    value = kind.canonical(answer)
    return value.known(counters) if isinstance(value, Stream) else value


def digest(parts: Iterable[bytes]) -> bytes:
    """16 bytes that stand for a sequence of byte strings; where one ends counts."""
    parts = list(parts)
    found = blake2b(struct.pack(f"<{len(parts)}Q", *map(len, parts)), digest_size=16)
    found.update(b"".join(parts))
    return found.digest()
