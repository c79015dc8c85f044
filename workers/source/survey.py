"""What is asked of a source before it is read by SCAN."""

from __future__ import annotations

from typing import Any

from workers.codec.resp_cy import ReplyError
from workers.source.ask import KEYS, Command, Source, _fields

LEAST_PAYLOAD = 11  # bytes: a type, version and checksum


class Survey(Source):
    """Asks one source node; errors as of `Source`."""

    def spaces(self) -> tuple[str, dict[int, int]]:
        """The id of its process, and how many keys each database holds."""
        server, spaces = (self._sound(0, (b"INFO", section)) for section in (b"server", b"keyspace"))
        found = {name: KEYS.match(value) for name, value in _fields(spaces).items() if name.startswith("db")}
        return _fields(server).get("run_id", ""), {int(db[2:]): int(keys[1]) for db, keys in found.items() if keys}

    def version(self, db: int) -> int | None:
        """The version of RDB in which it writes values; None: the database has none by now."""
        for _ in range(10):
            key = self._sound(db, (b"RANDOMKEY",))
            payload = None if key is None else self._sound(db, (b"DUMP", key))
            if payload is not None and len(payload) >= LEAST_PAYLOAD:
                return int.from_bytes(payload[-10:-8], "little")
        return None

    def codes(self) -> list[bytes]:
        """The code of its function libraries; a server before 7.0 has none, nor has who may not ask."""
        (answer,) = self._ask(0, [(b"FUNCTION", b"LIST", b"WITHCODE")])
        if isinstance(answer, ReplyError):
            return []
        return [dict(zip(one[::2], one[1::2], strict=True))[b"library_code"] for one in answer]

    def _sound(self, db: int, command: Command) -> Any:
        (answer,) = self._ask(db, [command])
        if isinstance(answer, ReplyError):
            raise self._refused(answer)
        return answer
