"""Which keys and commands travel: beginnings of names, per database if wanted, and commands by name."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, StrictStr, field_validator

from sync_tasks.strict import Strict

HEX = "hex:"
"""A prefix that is not text is written in hexadecimal digits behind this."""
MOST = 10_000
NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,30}")
OF_THE_STREAM = frozenset(("SELECT", "MULTI", "EXEC", "PING", "REPLCONF", "DEL", "UNLINK"))
"""Without these a stream means nothing; the last two are how a source tells that a key has expired."""


def prefix(text: str) -> bytes:
    """The bytes of a prefix. Raises ValueError if they make no sense."""
    return bytes.fromhex(text.removeprefix(HEX)) if text.startswith(HEX) else text.encode()


def _readable(given: list[str]) -> list[str]:
    for text in given:
        if not prefix(text):
            raise ValueError("empty")
    return given


Prefixes = Annotated[list[Annotated[StrictStr, Field(min_length=1, max_length=1024)]], Field(max_length=MOST)]


class KeyFilter(Strict):
    """Beginnings of the names of keys that are in scope (none given: all), and of those that are not; they count."""

    allow_prefixes: Prefixes = Field(default=[])
    block_prefixes: Prefixes = Field(default=[])

    _readable = field_validator("allow_prefixes", "block_prefixes")(_readable)

    @property
    def active(self) -> bool:
        """Whether any key is out of scope."""
        return bool(self.allow_prefixes or self.block_prefixes)

    def takes(self, key: bytes) -> bool:
        """Whether a key is in scope. Slow: what is asked of every key is compiled, see `workers.scope`."""
        blocked = any(key.startswith(prefix(text)) for text in self.block_prefixes)
        allowed = not self.allow_prefixes or any(key.startswith(prefix(text)) for text in self.allow_prefixes)
        return allowed and not blocked


class FilterSpec(KeyFilter):
    """What holds for every database but those in `db`, which have their own; and commands that do not travel."""

    block_commands: Annotated[list[StrictStr], Field(max_length=MOST)] = Field(default=[])
    db: dict[str, KeyFilter] = Field(default={})

    @field_validator("db", mode="before")
    @classmethod
    def _texts(cls, given: Any) -> Any:
        """TOML's keys are text, Python's may be numbers."""
        if not isinstance(given, dict):
            return given
        return {str(key) if type(key) is int else key: value for key, value in given.items()}

    @field_validator("db")
    @classmethod
    def _numbers(cls, given: dict[str, KeyFilter]) -> dict[str, KeyFilter]:
        for name in given:
            if not re.fullmatch(r"0|[1-9]\d{0,2}", name) or int(name) > 255:
                raise ValueError("no database")
        return given

    @field_validator("block_commands")
    @classmethod
    def _names(cls, given: list[str]) -> list[str]:
        if not all(NAME.fullmatch(name) and name.upper() not in OF_THE_STREAM for name in given):
            raise ValueError("no command")
        return [name.upper() for name in given]

    def of(self, db: int) -> KeyFilter:
        """What holds for the keys of one source database."""
        return self.db.get(str(db), self)

    @property
    def keys_filtered(self) -> bool:
        """Whether any key of any database is out of scope."""
        return self.active or any(one.active for one in self.db.values())
