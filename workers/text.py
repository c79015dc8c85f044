"""A long string as it stands in a snapshot or in what DUMP gave, read in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from workers.codec import pieces, text_size

STRING = 0
"""The type of strings in an RDB."""
BLOCK = 1 << 20


class Text:
    """Args:
        read: of the value, as for `workers.codec.pieces`.
        rewind: goes back to the value's beginning.

    size: bytes of the string itself; 0: it stands as a number.
    Raises Malformed.
    """

    def __init__(self, read: Callable[[int], bytes], rewind: Callable[[], object]) -> None:
        self._read, self._rewind = read, rewind
        self.size = text_size(read)
        rewind()

    def blocks(self, most: int = BLOCK) -> Iterator[bytes]:
        """Its bytes, `size` of them, in blocks of about `most`. Raises Malformed: the value is not what it states."""
        self._rewind()
        return (piece for _, (piece,) in pieces(self._read, STRING, most))
