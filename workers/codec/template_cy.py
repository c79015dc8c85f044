"""Hash templates: field names that a snapshot of Redis 8.10 states once, for the hashes that refer to them.

Such a hash cannot travel as it stands: it is made a plain one (type 4), which every server reads.
Source: Redis src/rdb.c (rdbSaveHashTemplates, rdbSaveObject); src/t_hash.c for the listpack, which begins with the
template's number.
"""

from __future__ import annotations

import cython

from sync_tasks.errors import Malformed, UnsupportedType
from workers.codec.packed_cy import listpack
from workers.codec.programs import INSTEAD

if cython.compiled:
    from cython.cimports.workers.codec.raw_cy import head_size, length, string_end
else:
    from workers.codec.raw_cy import head_size, length, string_end

MOST = 64 << 20
"""Bytes: the most that the templates of one snapshot take; they stay in memory to its end."""


def stated(n: int) -> bytes:
    """A length below 2**32 as an RDB states it."""
    if n < 64:
        return bytes([n])
    if n < 1 << 14:
        return bytes([0x40 | n >> 8, n & 0xFF])
    return b"\x80" + n.to_bytes(4, "big")


class Templates:
    """The templates of one snapshot."""

    def __init__(self) -> None:
        self._fields: dict[int, list[bytes]] = {}
        self._size = 0

    def add(self, record: bytes, offset: int) -> None:
        """Take a template's record: its number, the count of its fields, and these.

        Raises:
            Malformed: it has no fields, or its number was taken before; at `offset`.
            UnsupportedType: together the templates take over 64 MB.
        """
        first = head_size(record, 0, len(record))
        number = length(record, 0, first)
        fields = _strings(record, first + head_size(record, first, len(record)))
        if not fields or number in self._fields:
            raise Malformed(f"hash template {number} {'is there twice' if fields else 'has no fields'}", offset)
        self._size += len(record)
        if self._size > MOST:
            what = f"more than {MOST >> 20} MB of hash templates are not supported"
            raise UnsupportedType(what, offset, hint=INSTEAD)
        self._fields[number] = fields

    def values(self, number: int) -> int:
        """How many fields, and so values, a hash of this template has; 0: there is none of this number."""
        return len(self._fields.get(number, ()))

    def fields(self, number: int) -> list[bytes]:
        """The fields of a template that is there, as strings of an RDB."""
        return self._fields[number]

    def of_listpack(self, packed: bytes, offset: int) -> bytes:
        """A plain hash of the listpack of a template's number and its values. Raises Malformed at `offset`."""
        number, *values = listpack(packed, offset) if len(packed) > 7 else (b"",)
        fields = self._fields.get(int(number), []) if number.isdigit() else []
        if not fields or len(fields) != len(values):
            raise Malformed(f"a hash of {len(values)} values does not fit its template", offset)
        return _hash(fields, [stated(len(value)) + value for value in values])

    def of_array(self, value: bytes, offset: int) -> bytes:
        """A plain hash of a template's number and as many strings as it has fields. Raises Malformed at `offset`."""
        first = head_size(value, 0, len(value))
        fields = self._fields.get(length(value, 0, first) if first > 0 else -1, [])
        values = _strings(value, first) if first > 0 else []
        if not fields or len(fields) != len(values):
            raise Malformed(f"a hash of {len(values)} values does not fit its template", offset)
        return _hash(fields, values)


def _hash(fields: list[bytes], values: list[bytes]) -> bytes:
    """The value of a hash, of strings as they stood."""
    parts = [b""] * (2 * len(fields))
    parts[::2] = fields
    parts[1::2] = values
    return stated(len(fields)) + b"".join(parts)


def _strings(data: bytes, pos: cython.Py_ssize_t) -> list[bytes]:
    """The strings from `pos` on, as they stand. The walker has seen that they are whole."""
    end: cython.Py_ssize_t = len(data)
    after: cython.Py_ssize_t
    found = []
    while pos < end:
        after = string_end(data, pos, end)
        if after < 0:
            break
        found.append(data[pos:after])
        pos = after
    return found
