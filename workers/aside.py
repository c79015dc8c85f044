"""Long values among a server's replies, which go to a file as they come instead of into memory."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sync_tasks.errors import Malformed
from workers.spool.sealing import Veil, writing

LONG_BYTES = 1 << 20
BLOCK = 1 << 20


class Kept:
    """One such value; its file has no name, and goes with it."""

    def __init__(self, directory: Path, size: int) -> None:
        self.size = size  # bytes
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - lives as long as the value
        self._veil = Veil() if writing() is not None else None
        self._put = 0

    def append(self, data: bytes) -> None:
        """Bytes that follow. Raises OSError."""
        self._file.write(data if self._veil is None else self._veil.turn(data, self._put))
        self._put += len(data)

    def read(self, offset: int, size: int) -> Iterator[bytes]:
        """So many bytes from there on, once all are there."""
        self._file.flush()
        while size > 0:
            data = os.pread(self._file.fileno(), min(size, BLOCK), offset)
            yield data if self._veil is None else self._veil.turn(data, offset)
            offset, size = offset + len(data), size - len(data)


    def whole(self) -> bytes:
        """All of it, in memory."""
        return b"".join(self.read(0, self.size))


class Aside:
    """Takes long bulk strings out of replies in RESP2; 16 bytes, their keys in `values`, stand for each.

    Args:
        directory: where the files are made.
    """

    def __init__(self, directory: Path) -> None:
        self.values: dict[bytes, Kept] = {}
        self._directory = directory
        self._data = b""  # a line that is not all there
        self._left = 0  # bytes of a string, with its end, that are to come
        self._kept: Kept | None = None  # that string, if it is a long one

    def feed(self, data: bytes) -> bytes:
        """What came, without them. Raises Malformed, OSError."""
        data, pos, out = self._data + data, 0, []
        self._data = b""
        while pos < len(data):
            if self._left:
                part = data[pos : pos + self._left]
                pos, self._left = pos + len(part), self._left - len(part)
                if self._kept is None:
                    out.append(part)
                else:
                    self._keep(self._kept, part)
                continue
            stop = data.find(b"\r\n", pos)
            if stop < 0:
                self._data = data[pos:]
                break
            line, pos = data[pos : stop + 2], stop + 2
            out.append(self._begin(line[1:-2]) if line.startswith(b"$") else line)
        return b"".join(out)

    def _begin(self, number: bytes) -> bytes:
        """Of a string; what is passed on."""
        if not number.removeprefix(b"-").isdigit():
            raise Malformed("a reply is not RESP2")
        size, self._kept = int(number), None
        self._left = size + 2 if size >= 0 else 0
        if size <= LONG_BYTES:
            return b"$%b\r\n" % number
        token = secrets.token_bytes(16)
        self._kept = self.values[token] = Kept(self._directory, size)
        return b"$16\r\n%b\r\n" % token

    def _keep(self, kept: Kept, part: bytes) -> None:
        """`_left` is what follows it, with the two bytes at the end."""
        end = max(0, 2 - self._left)
        kept.append(part[: len(part) - end] if end else part)
