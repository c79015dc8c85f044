"""Bodies of the scripts that a source has sent, for when it sends their digests alone: a file beside the log.

A source before 7.0 sends a script whole the first time, and may send only its digest from then on. What is lost here is
not known any more: whoever meets such a digest must do without its body.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from sync_tasks.errors import Malformed
from workers.codec.resp_cy import encode, parse
from workers.spool.sealing import unwrapped, wrapped


class Scripts:
    """Args:
    path: of the file; made when there is something to keep.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bodies: dict[bytes, bytes] | None = None

    def add(self, body: bytes) -> None:
        """Keep one."""
        known, digest = self._known(), _digest(body)
        if digest not in known:
            known[digest] = body
            with contextlib.suppress(OSError):  # a full disk: the next owner does without it
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("ab") as file:
                    file.write(encode([wrapped(body)]))

    def get(self, digest: bytes) -> bytes | None:
        """The body of a digest in hexadecimal, if it is known."""
        return self._known().get(digest.lower())

    def _known(self) -> dict[bytes, bytes]:
        if self._bodies is None:
            self._bodies = {_digest(body): body for body in self._read()}
        return self._bodies

    def _read(self) -> list[bytes]:
        """Those of the file, up to where it makes no sense: a power cut may have torn it."""
        bodies: list[bytes] = []
        with contextlib.suppress(OSError, Malformed, ValueError):
            data, at = self._path.read_bytes(), 0
            while at < len(data):
                argv, at = parse(data, at)
                if at < 0 or not isinstance(argv, list) or not isinstance(argv[0], bytes):
                    break
                bodies.append(unwrapped(argv[0]))
        return bodies


def _digest(body: bytes) -> bytes:
    return hashlib.sha1(body, usedforsecurity=False).hexdigest().encode()
