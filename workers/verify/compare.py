"""One look at a batch of keys on both sides: payloads first, canonical values where those differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.verify.extent import LENGTHS
from workers.verify.findings import Finding, Kind, Pair
from workers.verify.large import compare_large
from workers.verify.outlived import Outlived
from workers.verify.server import NO_EXPIRY, NO_KEY, UNKNOWN
from workers.verify.sides import Sides
from workers.verify.states import LARGE, slices
from workers.verify.values import DUMP, FOOTER, KINDS, canonical, kind_of
from workers.verify.wire import arg, each

FIRST_TIMED_TYPE = 22
"""RDB types from here on (Valkey 9, Redis 7.4) hold expiries of hash fields, or are of streams (Redis 8)."""


Hash = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key that both sides have, its value not yet compared."""

    key: bytes
    arg: bytes
    size: int  # bytes of memory, of both sides together
    timed: bool = True  # may be a hash with expiries of its fields


class Comparer:
    """Compares keys of two servers.

    Args:
        sides: the servers.
        outlived: knows what the target may hold though the source has it no more.
    """

    def __init__(self, sides: Sides, outlived: Outlived) -> None:
        self.sides = sides
        self.source = sides.source
        self.target = sides.target
        self.shift = sides.shift
        self.outlived = outlived

    def compare(self, pair: Pair, keys: Sequence[bytes]) -> list[Finding]:
        """What differs at this moment, at most one finding of a value and one of an expiry for each key."""
        args = [arg(key) for key in keys]
        self.source.start_heads(pair.source, args)
        self.target.start_heads(pair.target, args)
        sizes, expiries = self.source.finish_heads(pair.source, args)
        their_sizes, their_expiries = self.target.finish_heads(pair.target, args)
        found: list[Finding] = []
        small: list[Candidate] = []
        large: list[Candidate] = []
        shallow: list[Candidate] = []
        expected = self.shift.key
        for key, packed, ours, theirs, size, their_size in zip(
            keys, args, expiries, their_expiries, sizes, their_sizes, strict=True
        ):
            if ours == NO_KEY or theirs == NO_KEY:
                if ours != theirs:
                    found.append(Finding(pair, key, Kind.EXTRA if ours == NO_KEY else Kind.MISSING))
                continue
            # Most keys have none; UNKNOWN equals nothing, not even itself.
            if (ours != NO_EXPIRY or theirs != NO_EXPIRY) and (expected(ours) != theirs or ours == UNKNOWN):
                found.append(Finding(pair, key, Kind.EXPIRY))
            size, their_size = size or 0, their_size or 0
            if not self.sides.extent.is_whole(max(size, their_size)):
                shallow.append(Candidate(key, packed, max(size, their_size)))
            elif size > LARGE or their_size > LARGE:
                large.append(Candidate(key, packed, max(size, their_size)))
            else:
                small.append(Candidate(key, packed, size + their_size))
        found += self._payloads(pair, small)
        found += self._large(pair, large)
        found += self._shallow(pair, shallow)
        return self.unexplained(pair, _once(found))

    def _shallow(self, pair: Pair, candidates: list[Candidate]) -> list[Finding]:
        """Types, and lengths if the extent says so."""
        found: list[Finding] = []
        if not candidates:
            return found
        args = [candidate.arg for candidate in candidates]
        types, their_types = self.source.types(pair.source, args), self.target.types(pair.target, args)
        alike: list[tuple[bytes, Candidate]] = []
        for candidate, ours, theirs in zip(candidates, types, their_types, strict=True):
            if ours != theirs:
                found.append(Finding(pair, candidate.key, _kind(ours, theirs)))
            elif self.sides.extent.depth == "length" and (tells := LENGTHS.get(ours)):
                alike.append((tells, candidate))
        request = b"".join(tells + candidate.arg for tells, candidate in alike)
        self.source.link.start(pair.source, request, len(alike))
        self.target.link.start(pair.target, request, len(alike))
        lengths = zip(self.source.link.finish(loose=True), self.target.link.finish(loose=True), strict=True)
        doubted = [candidate for (_, candidate), (mine, other) in zip(alike, lengths, strict=True) if mine != other]
        # The whole value tells which part it is, and whether that is only over at the source, but not yet here.
        found += self._payloads(pair, [candidate for candidate in doubted if candidate.size <= LARGE])
        return found + self._large(pair, [candidate for candidate in doubted if candidate.size > LARGE])

    def unexplained(self, pair: Pair, found: list[Finding]) -> list[Finding]:
        """Those findings that are no extra keys which the target may hold."""
        extra = [finding.key for finding in found if finding.kind is Kind.EXTRA]
        if not extra:
            return found
        self.source.now_ms()
        over = self.outlived.keys(pair, extra)
        return [finding for finding in found if finding.kind is not Kind.EXTRA or finding.key not in over]

    def _payloads(self, pair: Pair, candidates: list[Candidate]) -> list[Finding]:
        different: list[Candidate] = []
        for cut in slices([candidate.size for candidate in candidates]):
            some = candidates[cut]
            request = each(DUMP, [candidate.arg for candidate in some])
            self.source.link.start(pair.source, request, len(some))
            self.target.link.start(pair.target, request, len(some))
            ours, theirs = self.source.link.finish(), self.target.link.finish()
            for candidate, mine, other in zip(some, ours, theirs, strict=True):
                if mine is None or other is None:
                    different.append(candidate)
                    continue
                timed = mine[0] >= FIRST_TIMED_TYPE or other[0] >= FIRST_TIMED_TYPE
                same = mine == other or mine[:-FOOTER] == other[:-FOOTER]
                # Equal payloads with equal times inside are wrong when the times should differ.
                if not same or (timed and self.shift.ms):
                    different.append(Candidate(candidate.key, candidate.arg, candidate.size, timed))
        return self._values(pair, different)

    def _values(self, pair: Pair, candidates: list[Candidate]) -> list[Finding]:
        found: list[Finding] = []
        for cut in slices([candidate.size for candidate in candidates]):
            some = candidates[cut]
            args = [candidate.arg for candidate in some]
            types = self.source.types(pair.source, args)
            their_types = self.target.types(pair.target, args)
            alike: list[tuple[Candidate, bytes]] = []
            in_pieces: list[Candidate] = []
            for candidate, ours, theirs in zip(some, types, their_types, strict=True):
                if ours == theirs == b"stream" and not self.sides.counters.whole:
                    in_pieces.append(candidate)
                elif ours == theirs:
                    if ours != b"none":
                        alike.append((candidate, ours))
                else:
                    found.append(Finding(pair, candidate.key, _kind(ours, theirs)))
            found += self._read_values(pair, alike) + self._large(pair, in_pieces)
        return found

    def _read_values(self, pair: Pair, candidates: list[tuple[Candidate, bytes]]) -> list[Finding]:
        kinds = [kind_of(name) for _, name in candidates]
        request = b"".join(
            kind.beginning + candidate.arg + kind.end for kind, (candidate, _) in zip(kinds, candidates, strict=True)
        )
        self.source.link.start(pair.source, request, len(candidates))
        self.target.link.start(pair.target, request, len(candidates))
        ours, theirs = self.source.link.finish(loose=True), self.target.link.finish(loose=True)
        counters = self.sides.counters
        found: list[Finding] = []
        hashes: list[tuple[Candidate, list[bytes]]] = []
        longer: list[tuple[Candidate, Hash, Hash]] = []
        for kind, (candidate, name), mine, other in zip(kinds, candidates, ours, theirs, strict=True):
            a, b = canonical(kind, mine, counters), canonical(kind, other, counters)
            if name == b"hash" and b is not None and (a is None or b.keys() - a.keys()):
                longer.append((candidate, a or {}, b))
            elif a is None or b is None:
                if a is not b:
                    found.append(Finding(pair, candidate.key, Kind.VALUE))
            elif a != b and (part := kind.difference(a, b)) is not None:
                found.append(Finding(pair, candidate.key, Kind.VALUE, part))
            if name == b"hash" and candidate.timed and a and b:
                hashes.append((candidate, sorted(a.keys() & b.keys())))
        return found + self._longer(pair, longer) + self._fields(pair, hashes)

    def _longer(self, pair: Pair, hashes: list[tuple[Candidate, Hash, Hash]]) -> list[Finding]:
        """Values of hashes of which the target has fields that the source lacks, and may have them or not."""
        if not hashes:
            return []
        self.source.now_ms()
        wanted = [(candidate.arg, sorted(b.keys() - a.keys())) for candidate, a, b in hashes]
        explained = self.outlived.fields(pair.target, wanted)
        self.outlived.count += sum(map(bool, explained))
        found = []
        for (candidate, a, b), over in zip(hashes, explained, strict=True):
            rest = {field: value for field, value in b.items() if field not in over}
            if a != rest:
                found.append(Finding(pair, candidate.key, Kind.VALUE, KINDS[b"hash"].difference(a, rest)))
        return found

    def _fields(self, pair: Pair, hashes: list[tuple[Candidate, list[bytes]]]) -> list[Finding]:
        """Expiries of the fields that both sides have."""
        wanted = [(candidate.arg, fields) for candidate, fields in hashes if fields]
        if not wanted or not self.sides.timed_fields:
            return []
        ours = self.source.field_expiries(pair.source, wanted)
        theirs = self.target.field_expiries(pair.target, wanted)
        found: list[Finding] = []
        kept = [(candidate, fields) for candidate, fields in hashes if fields]
        for (candidate, fields), mine, other in zip(kept, ours, theirs, strict=True):
            for field, moment, their in zip(fields, mine, other, strict=True):
                if self.shift.field(moment) != their:
                    found.append(Finding(pair, candidate.key, Kind.EXPIRY, field))
                    break
        return found

    def _large(self, pair: Pair, candidates: list[Candidate]) -> list[Finding]:
        found: list[Finding] = []
        if not candidates:
            return found
        args = [candidate.arg for candidate in candidates]
        types = self.source.types(pair.source, args)
        their_types = self.target.types(pair.target, args)
        for candidate, ours, theirs in zip(candidates, types, their_types, strict=True):
            if ours != theirs:
                found.append(Finding(pair, candidate.key, _kind(ours, theirs)))
            elif ours != b"none":
                found += compare_large(self.sides, self.outlived, pair, candidate.key, ours, candidate.size)
        return found


def _kind(ours: bytes, theirs: bytes) -> Kind:
    if ours == b"none":
        return Kind.EXTRA
    return Kind.MISSING if theirs == b"none" else Kind.TYPE


def _once(found: list[Finding]) -> list[Finding]:
    """One finding of the expiry for each key: that of the key itself before that of a field."""
    seen: set[tuple[bytes, Kind]] = set()
    out = []
    for finding in found:
        if (finding.key, finding.kind) not in seen:
            seen.add((finding.key, finding.kind))
            out.append(finding)
    return out
