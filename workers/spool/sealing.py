"""What lies in a spool and in its object store, sealed: AES-256-GCM by a key made of the installation's secret key.

Whether anything is sealed is a setting; what was sealed is read as long as its key is among those that are given. A
process says once which they are (`use`). Chunk files say by their names that they are sealed, blocks of the log by
their magic. What is sealed begins with the id of its key: keys can be changed while old files are still there.
"""

from __future__ import annotations

import bisect
import io
import os
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from zlib_ng.zlib_ng import crc32

from sync_tasks.errors import ControlError
from workers.spool.damage import damaged

KEY_ID, NONCE, TAG = 4, 12, 16  # bytes
OVERHEAD = KEY_ID + NONCE + TAG
"""Bytes by which something grows when it is sealed."""
CRC = FRAME = Struct("<I")
"""Before each piece of a sealed file: bytes of what follows."""
MAGIC = b"KFSEAL1\n"
"""Before what is sealed as a whole."""
UNKNOWN_KEY = "spool-key"
"""Code of the error of what no key opens."""
MARK = ".sealed."
"""In the names of sealed chunk files."""


class Seal:
    """Seals by the first key, opens by any.

    Args:
        keys: as `sync_tasks.secrets.SecretBox` takes them.
    """

    def __init__(self, keys: bytes) -> None:
        made = [_derived(one) for one in keys.split()]
        self._id, self._first = made[0]
        self._all = dict(made)

    def seal(self, data: bytes | bytearray | memoryview, about: bytes = b"") -> bytes:
        """Data so that nobody else reads them, or changes them unseen; `about` must be the same at their opening."""
        nonce = os.urandom(NONCE)
        return b"".join((self._id, nonce, self._first.encrypt(nonce, data, about)))

    def open(self, data: bytes, about: bytes = b"") -> bytes:
        """The same, open. Raises ControlError (`spool-key`): no key is the one; ValueError: it is not what it was."""
        cipher = self._all.get(data[:KEY_ID])
        if cipher is None:
            raise unknown_key()
        try:
            return cipher.decrypt(data[KEY_ID : KEY_ID + NONCE], data[KEY_ID + NONCE :], about)
        except InvalidTag as e:
            raise ValueError("it was changed since it was sealed") from e


def _derived(key: bytes) -> tuple[bytes, AESGCM]:
    found = HKDF(SHA256(), 32 + KEY_ID, None, b"keyferry spool").derive(key)
    return found[32:], AESGCM(found[:32])


def unknown_key() -> ControlError:
    """The key by which something was sealed is none of ours."""
    return ControlError(
        "what lies in the spool was sealed with another key",
        code=UNKNOWN_KEY,
        hint="give the former secret key behind the present one, after a space (KEYFERRY_SECRET_KEY), and resume",
    )


_seal: Seal | None = None
_writes = False


def use(seal: Seal | None, writes: bool = False) -> None:
    """From now on this process opens by these keys, and seals what it writes if `writes`."""
    global _seal, _writes
    _seal, _writes = seal, writes and seal is not None


def writing() -> Seal | None:
    """By what to seal; None: nothing is sealed."""
    return _seal if _writes else None


def reading() -> Seal:
    """By what to open. Raises ControlError: there is no key."""
    if _seal is None:
        raise unknown_key()
    return _seal


def wrapped(data: bytes) -> bytes:
    """A small file's content as it is to be written."""
    seal = writing()
    if seal is None:
        return data
    sealed = seal.seal(data)
    return MAGIC + CRC.pack(crc32(sealed)) + sealed


def unwrapped(data: bytes) -> bytes:
    """The content of what `wrapped` has written. Raises ControlError: the key is another; ValueError: it is damaged."""
    if not data.startswith(MAGIC):
        return data
    head, sealed = len(MAGIC) + CRC.size, data[len(MAGIC) + CRC.size :]
    if data[len(MAGIC) : head] != CRC.pack(crc32(sealed)):
        raise ValueError("it is damaged")
    return reading().open(sealed)


# --- files in pieces


def piece(seal: Seal, number: int, data: bytes | bytearray | memoryview) -> bytes:
    """The `number`th piece of a file, from 0, as it is to be written."""
    return FRAME.pack(len(data) + OVERHEAD) + seal.seal(data, b"%d" % number)


def is_sealed(path: Path | str) -> bool:
    """Whether a chunk file says so."""
    return MARK in os.path.basename(path)


def opened(path: Path) -> BinaryIO:
    """A chunk file to read, sealed or not. What reads it may raise ControlError."""
    return io.BufferedReader(_Pieces(path)) if is_sealed(path) else path.open("rb")


def size_of(path: Path) -> int:
    """How many bytes `opened` gives. Raises FileNotFoundError."""
    if not is_sealed(path):
        return path.stat().st_size
    with _Pieces(path) as file:
        return file.size


class _Pieces(io.RawIOBase):
    """Piece by piece; of a file that is torn, its whole pieces."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._file = path, path.open("rb")
        self._starts: list[int] = []  # in what is open
        self._places: list[tuple[int, int]] = []  # in the file, and bytes there
        self._at, self.size = 0, 0
        self._number, self._open = -1, b""
        place, end = 0, os.fstat(self._file.fileno()).st_size
        while place + FRAME.size <= end:
            (length,) = FRAME.unpack(os.pread(self._file.fileno(), FRAME.size, place))
            place += FRAME.size
            if length < OVERHEAD or place + length > end:
                break
            self._starts.append(self.size)
            self._places.append((place, length))
            place, self.size = place + length, self.size + length - OVERHEAD

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self.size)[whence])
        return self._at

    def readinto(self, room: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._at >= self.size:
            return 0
        number = bisect.bisect_right(self._starts, self._at) - 1
        while number + 1 < len(self._starts) and self._starts[number + 1] == self._at:
            number += 1  # an empty piece before it
        if number != self._number:
            place, length = self._places[number]
            sealed = os.pread(self._file.fileno(), length, place)
            try:
                self._number, self._open = number, reading().open(sealed, b"%d" % number)
            except ValueError as e:
                raise damaged(self._path, "was changed since it was sealed") from e
        begin = self._at - self._starts[number]
        found = self._open[begin : begin + len(room)]
        room[: len(found)] = found
        self._at += len(found)
        return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()


class Veil:
    """AES-256-CTR by a key that dies with it, for a file that does, too: read from anywhere, checked by its reader."""

    def __init__(self) -> None:
        self._key, self._start = os.urandom(32), int.from_bytes(os.urandom(8)) << 64

    def turn(self, data: bytes, offset: int) -> bytes:
        """The bytes at an offset of the file, veiled or unveiled."""
        begin, skip = divmod(offset, 16)
        made = Cipher(AES(self._key), CTR((self._start + begin).to_bytes(16))).encryptor()
        return made.update(bytes(skip) + data)[skip:]
