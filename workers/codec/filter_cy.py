"""Which keys are in scope, by the beginnings of their names."""

from __future__ import annotations

import cython


@cython.final
@cython.cclass
class Filter:
    """Decides by prefixes; what is both allowed and blocked is blocked.

    Args:
        allow: beginnings of the names that are in scope; empty: all.
        block: of those that are not.
    """

    def __init__(self, allow: list, block: list) -> None:
        self.every = not allow
        self.allow = _by_first(allow)
        self.block = _by_first(block)

    def takes(self, key: bytes) -> bool:
        """Whether a key is in scope."""
        return self.takes_at(key, 0, len(key)) == 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def takes_at(self, buf: cython.p_const_uchar, pos: cython.Py_ssize_t, size: cython.Py_ssize_t) -> cython.int:
        """The same of a name in the middle of other bytes."""
        if _begins(self.block, buf, pos, size):
            return 0
        return 1 if self.every or _begins(self.allow, buf, pos, size) else 0


@cython.cfunc
def _by_first(prefixes: list) -> list:
    """By their first byte: of many prefixes few are compared. An empty one is the beginning of every name."""
    found: list = [None] * 257
    for prefix in prefixes:
        at: cython.int = prefix[0] if prefix else 256
        if found[at] is None:
            found[at] = []
        found[at].append(prefix)
    return found


@cython.cfunc
@cython.exceptval(-1, check=False)
def _begins(table: list, buf: cython.p_const_uchar, pos: cython.Py_ssize_t, size: cython.Py_ssize_t) -> cython.int:
    prefixes: object = table[256]
    n: cython.Py_ssize_t
    i: cython.Py_ssize_t
    if prefixes is not None:
        return 1
    if size == 0:
        return 0
    prefixes = table[buf[pos]]
    if prefixes is None:
        return 0
    some: list = prefixes
    for one in some:
        prefix: bytes = one
        n = len(prefix)
        if n > size:
            continue
        p: cython.p_const_uchar = prefix
        i = 1
        while i < n and p[i] == buf[pos + i]:
            i += 1
        if i >= n:
            return 1
    return 0
