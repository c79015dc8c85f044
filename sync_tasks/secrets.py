"""Sealing of what is secret before it is stored."""

from __future__ import annotations

import re

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from sync_tasks.errors import ControlError

USERINFO = re.compile(r"(?<=://)[^\s/@]*@")


def new_key() -> bytes:
    """A fresh Fernet key: 32 random bytes, URL-safe base64."""
    return Fernet.generate_key()


def redact(text: str) -> str:
    """The text without the user part of any URL in it."""
    return USERINFO.sub("***@", text)


class SecretBox:
    """Seals strings with Fernet (AES-128-CBC and HMAC-SHA256).

    Args:
        key: of `new_key`, or several, with spaces or line ends between: the first one seals, any of them opens. None
            makes one that dies with the process.

    Raises:
        ControlError: the key is not a Fernet key.
    """

    def __init__(self, key: bytes | None = None) -> None:
        try:
            self._fernet = MultiFernet([Fernet(one) for one in (key or new_key()).split()])
        except ValueError as error:
            raise ControlError(
                "the secret key is not valid",
                hint="KEYFERRY_SECRET_KEY must be 32 bytes in URL-safe base64, or several of those",
                code="secret-key",
            ) from error

    def __repr__(self) -> str:
        return "SecretBox(***)"

    def seal(self, text: str) -> bytes:
        """The text as a token that only the first key opens."""
        return self._fernet.encrypt(text.encode())

    def again(self, token: bytes) -> bytes:
        """The same secret, sealed by the first key. Raises ControlError if no key opens it."""
        return self.seal(self.open(token))

    def open(self, token: bytes) -> str:
        """The text of a token. Raises ControlError if it was sealed with another key."""
        try:
            return self._fernet.decrypt(token).decode()
        except InvalidToken as error:
            raise ControlError(
                "the stored addresses were sealed with another key",
                hint="give both URLs again, or set KEYFERRY_SECRET_KEY to the key used before",
                code="secret-key",
            ) from error
