"""How much of a data set is compared: which keys, and how closely."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from sync_tasks.verify_spec import VerifySpec
from workers.verify.wire import head

LENGTHS = {
    b"string": head(2, b"STRLEN"),
    b"list": head(2, b"LLEN"),
    b"set": head(2, b"SCARD"),
    b"zset": head(2, b"ZCARD"),
    b"hash": head(2, b"HLEN"),
    b"stream": head(2, b"XLEN"),
}
"""Type to the command that tells a value's length. Others, of modules, have none."""
SHARES = 1_000_000


@dataclass(frozen=True, slots=True)
class Extent:
    """Args:
    depth: "value", "length" or "key" (its type and expiry): how much of a value counts,
    above: if its memory, on the larger side, is more than so many bytes.
    sample: percent of the keys; on both sides the same ones, and in each run.
    """

    depth: str = "value"
    above: int = 0
    sample: float = 100.0

    def takes(self, keys: list[bytes]) -> list[bytes]:
        """Those of `keys` that are compared."""
        if self.sample >= 100:
            return keys
        limit = self.sample / 100 * SHARES
        return [key for key in keys if crc32(key) % SHARES < limit]

    def is_whole(self, size: int) -> bool:
        """Whether all of a value of that memory is compared."""
        return self.depth == "value" or size <= self.above


def extent(spec: VerifySpec) -> Extent:
    """As the settings say."""
    return Extent(spec.depth, spec.depth_above_bytes, float(spec.sample))
