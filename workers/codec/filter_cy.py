"""Which keys are in scope, by the beginnings of their names."""

from __future__ import annotations

import cython

if cython.compiled:
    from cython.cimports.workers.codec.slots_cy import slot_bytes
else:
    from workers.codec.slots_cy import slot_bytes


@cython.final
@cython.cclass
class Filter:
    """Decides by prefixes, and hash slots; what is both allowed and blocked is blocked.

    Args:
        allow: beginnings of the names that are in scope; empty: all.
        block: of those that are not.
        slots: a byte for each hash slot, 1 for those whose keys are in scope; empty: all.
    """

    def __init__(self, allow: list, block: list, slots: bytes = b"") -> None:
        self.slotted = len(slots) == 16384
        self.slots = slots
        self.every = not allow
        self.allow = _prefixes(allow)
        self.block = _prefixes(block)

    def takes(self, key: bytes) -> bool:
        """Whether a key is in scope."""
        return self.takes_at(key, 0, len(key)) == 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def takes_at(self, buf: cython.p_const_uchar, pos: cython.Py_ssize_t, size: cython.Py_ssize_t) -> cython.int:
        """The same of a name in the middle of other bytes."""
        slots: cython.p_const_uchar = self.slots
        if self.slotted and slots[slot_bytes(buf, pos, pos + size)] == 0:
            return 0
        if _begins(self.block, buf, pos, size):
            return 0
        return 1 if self.every or _begins(self.allow, buf, pos, size) else 0


@cython.cfunc
def _prefixes(given: list) -> list:
    """In order, without those that begin with another one: at most one of them can begin a name."""
    found: list = []
    for prefix in sorted(given):
        if not found or not prefix.startswith(found[-1]):
            found.append(prefix)
    return found


@cython.cfunc
@cython.exceptval(-1, check=False)
def _begins(prefixes: list, buf: cython.p_const_uchar, pos: cython.Py_ssize_t, size: cython.Py_ssize_t) -> cython.int:
    """Whether a name begins with one of them: by halves."""
    low: cython.Py_ssize_t = 0
    high: cython.Py_ssize_t = len(prefixes)
    middle: cython.Py_ssize_t
    n: cython.Py_ssize_t
    i: cython.Py_ssize_t
    while low < high:
        middle = (low + high) // 2
        prefix: bytes = prefixes[middle]
        p: cython.p_const_uchar = prefix
        n = len(prefix)
        i = 0
        while i < n and i < size and p[i] == buf[pos + i]:
            i += 1
        if i == n:
            return 1
        if i < size and p[i] < buf[pos + i]:
            low = middle + 1
        else:
            high = middle
    return 0
