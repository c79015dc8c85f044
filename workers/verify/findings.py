"""What a verification finds and how it is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

MOST_LISTED = 100_000  # differing keys that a report names; the others are counted


class Kind(StrEnum):
    """How a key differs."""

    MISSING = "missing"
    EXTRA = "extra"
    TYPE = "type"
    VALUE = "value"
    EXPIRY = "expiry"


class Pair(NamedTuple):
    """A database of the source and the one of the target that it is kept in step with."""

    source: int
    target: int


class Finding(NamedTuple):
    """One difference of one key.

    Args:
        pair: None for what belongs to no database (function libraries).
        field: hash field, member, index, byte, ... that differs; None when it is the whole key's.
        proven: it has already outlived its re-checks.
    """

    pair: Pair | None
    key: bytes
    kind: Kind
    field: bytes | None = None
    proven: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As the JSON of SPEC 7 has it; `db` is the source's number."""
        return {
            "db": self.pair.source if self.pair else None,
            "key": shown(self.key),
            "kind": self.kind.value,
            "field": None if self.field is None else shown(self.field),
        }


def shown(raw: bytes) -> str:
    """Text where the bytes are printable text, else `hex:` and hexadecimal digits."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return "hex:" + raw.hex()
    return text if text.isprintable() and not text.startswith("hex:") else "hex:" + raw.hex()


@dataclass(slots=True)
class Report:
    """The outcome.

    Args:
        compared: keys of the source that were compared, `keyferry:` ones left out.
        in_flux: keys, or parts of large ones, that changed without a pause and that the target followed.
        expired: keys that are over on the source, or hashes with such fields, which the target holds for the
            extension; traffic may have one counted twice.
        findings: the first MOST_LISTED differences.
        repaired: those whose keys were copied anew and are equal since; None: that was not asked for.
        left: why keys were not copied anew.
        told: called with each difference, also those that are not listed.
    """

    compared: int = 0
    in_flux: int = 0
    expired: int = 0
    counts: Counter[Kind] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    repaired: set[Finding] | None = None
    left: dict[tuple[Pair, bytes], str] = field(default_factory=dict)
    told: Callable[[Finding], None] = lambda _: None

    def add(self, finding: Finding) -> None:
        self.counts[finding.kind] += 1
        self.told(finding)
        if len(self.findings) < MOST_LISTED:
            self.findings.append(finding)

    @property
    def equal(self) -> bool:
        """Whether nothing differs, or all that did was repaired."""
        return self.counts.total() == self.mended

    @property
    def mended(self) -> int:
        """How many of the differences were repaired."""
        return sum(finding in self.repaired for finding in self.findings) if self.repaired else 0

    def _mended(self, finding: Finding) -> dict[str, Any]:
        """Whether it was repaired; or why not, if that is known."""
        assert self.repaired is not None
        why = self.left.get((finding.pair, finding.key)) if finding.pair else None
        return {"repaired": finding in self.repaired, **({"why": why} if why else {})}

    def as_dict(self) -> dict[str, Any]:
        """SPEC 7: counts by kind and the keys; `left_out` are those not listed."""
        keys = [finding.as_dict() for finding in self.findings]
        mended: dict[str, Any] = {}
        if self.repaired is not None:
            mended = {"repaired": self.mended}
            keys = [{**key, **self._mended(f)} for key, f in zip(keys, self.findings, strict=True)]
        return {
            "compared": self.compared,
            **{kind.value: self.counts[kind] for kind in Kind},
            "in_flux": self.in_flux,
            "expired": self.expired,
            "left_out": self.counts.total() - len(self.findings),
            **mended,
            "keys": keys,
        }
