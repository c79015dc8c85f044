"""Which forms of values a target reads, as the version says that its own DUMP writes.

Since version 12 (Redis 7.4) and 80 (Valkey 9) the two lines have parted, and neither reads what the other has added.
Source: Redis and Valkey src/rdb.h, and cluster.c, verifyDumpPayload.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.codec.convert_cy import ACTIVE, COUNTED, REDIS_TIMED, STREAM, VALKEY_TIMED
from workers.codec.programs import TIMED_HASHES, VALKEY_VERSIONS

VALKEY = VALKEY_VERSIONS[0]
COMMON = 11
"""The last version that both lines have."""
_SINCE = {5: 8, 7: 8, 14: 7, 15: 9, 16: 10, 17: 10, 18: 10, 19: 10, 20: 11, 21: 11}
"""Type to the first version with it, of those that came behind version 6."""
_REDIS = {26: 13, 27: 14, 28: 14}


@dataclass(frozen=True, slots=True)
class Reads:
    """A target's reading.

    Args:
        version: the RDB version that it writes.
    """

    version: int

    def footer(self, source: int) -> int:
        """The version that a payload of a source of version `source` states, so that the target takes it."""
        same_line = (source >= VALKEY) == (self.version >= VALKEY)
        return min(source, self.version) if same_line else min(source, self.version, COMMON)

    def takes(self, kind: int, source: int) -> bool:
        """Whether a value of this RDB type, written by version `source`, may travel as it stands. Hashes of Redis whose
        fields expire may not: their times are to be held."""
        if kind in TIMED_HASHES:
            return source >= VALKEY and self.version >= VALKEY
        if kind in _REDIS:
            return _REDIS[kind] <= self.version < VALKEY
        if kind > max(_REDIS):
            return source <= self.version < VALKEY  # not known here: none but the same server may
        return _SINCE.get(kind, 0) <= self.version

    def takes_all(self, source: int) -> bool:
        """Whether that holds for whatever a source of version `source` writes."""
        return source <= self.version if source <= COMMON else source >= VALKEY and self.version >= VALKEY

    def table(self, source: int) -> bytes:
        """`takes` of each type, 1 or 0."""
        return bytes(self.takes(kind, source) for kind in range(256))

    @property
    def timed(self) -> int:
        """Its own type of hashes whose fields expire; 0: it has none."""
        return VALKEY_TIMED if self.version >= VALKEY else REDIS_TIMED if self.version > COMMON else 0

    @property
    def stream(self) -> int:
        """The latest type of streams that both lines have, and it reads."""
        return ACTIVE if self.version >= COMMON else COUNTED if self.counters else STREAM

    @property
    def counters(self) -> bool:
        """Whether it is Redis 7.0 or later: streams have counters, and there are functions."""
        return self.version >= 10
