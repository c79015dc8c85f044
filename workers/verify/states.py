"""States of keys as short tokens, to see whether they change and whether both sides agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from workers.verify.findings import Pair
from workers.verify.flux import Token
from workers.verify.outlived import UP_TO_NOTHING, Outlived
from workers.verify.server import NO_EXPIRY, NO_KEY, UNKNOWN, Server
from workers.verify.shift import Shift
from workers.verify.streams import Counters
from workers.verify.values import canonical, digest, kind_of
from workers.verify.wire import arg

LARGE = 256 << 10  # bytes of memory from which on a value is read in pieces
BATCH_BYTES = 8 << 20  # of values that are held at once, from each side


class Aspect(IntEnum):
    """What of a key is looked at."""

    VALUE = 0  # existence and type included
    EXPIRY = 1  # of the key and, in a hash, of fields


class Thing(NamedTuple):
    """One aspect of one key."""

    pair: Pair
    key: bytes
    aspect: Aspect


def slices(sizes: Sequence[int], limit: int = BATCH_BYTES) -> Iterator[slice]:
    """Cuts of a sequence that hold at most `limit` bytes each, or one element."""
    start = total = 0
    for i, size in enumerate(sizes):
        if i > start and total + size > limit:
            yield slice(start, i)
            start, total = i, 0
        total += size
    if start < len(sizes):
        yield slice(start, len(sizes))


class States:
    """Reads tokens from one side.

    Args:
        server: that side.
        db: 0 when it is the source, 1 when it is the target: which number of a pair it has.
        shift: what to add to expiries so that both sides' compare.
        counters: the counters of streams that can be compared.
        outlived: of the target: what it holds though the source does not any more; it counts as absent.
    """

    def __init__(
        self, server: Server, db: int, shift: Shift, counters: Counters, outlived: Outlived | None = None
    ) -> None:
        self.server = server
        self.place = db
        self.shift = shift
        self.counters = counters
        self.outlived = outlived

    def read(self, things: Sequence[Thing]) -> list[Token]:
        """A token for each thing; None where the key is absent.

        Large values are not read here: their token never equals the other side's, so that they are compared
        in pieces in the end.
        """
        tokens: list[Token] = [None] * len(things)
        by_db: dict[int, list[int]] = {}
        for i, thing in enumerate(things):
            by_db.setdefault(thing.pair[self.place], []).append(i)
        for db, places in by_db.items():
            for start in range(0, len(places), 1000):
                some = places[start : start + 1000]
                for i, token in zip(some, self._read(db, [things[i] for i in some]), strict=True):
                    tokens[i] = token
        return tokens

    def _read(self, db: int, things: list[Thing]) -> list[Token]:
        args = [arg(thing.key) for thing in things]
        self.server.start_heads(db, args)
        sizes, expiries = self.server.finish_heads(db, args)
        types = self.server.types(db, args)
        tokens: list[Token] = [None] * len(things)
        latest = self.outlived.latest_key() if self.outlived else UP_TO_NOTHING
        small: list[int] = []
        for i, thing in enumerate(things):
            if expiries[i] == NO_KEY or types[i] == b"none" or 0 <= expiries[i] <= latest:
                continue
            if thing.aspect is Aspect.EXPIRY and not (types[i] == b"hash" and self.server.field_expiry):
                tokens[i] = self._expiry_token(expiries[i], {})
            elif (sizes[i] or 0) > LARGE or (types[i] == b"stream" and not self.counters.whole):
                tokens[i] = b"large %d" % self.place
            else:
                small.append(i)
        for cut in slices([sizes[i] or 0 for i in small]):
            self._read_values(db, small[cut], things, args, types, expiries, tokens)
        return tokens

    def _read_values(
        self,
        db: int,
        places: list[int],
        things: list[Thing],
        args: list[bytes],
        types: list[bytes],
        expiries: list[int],
        tokens: list[Token],
    ) -> None:
        kinds = {i: kind_of(types[i]) for i in places}
        request = b"".join(kinds[i].beginning + args[i] + kinds[i].end for i in places)
        answers = self.server.link.ask(db, request, len(places), loose=True)
        latest = self.outlived.latest_field() if self.outlived else UP_TO_NOTHING
        hashes: list[tuple[int, dict[bytes, bytes]]] = []
        for i, answer in zip(places, answers, strict=True):
            value = canonical(kinds[i], answer, self.counters)
            if value is None:
                continue
            if things[i].aspect is Aspect.EXPIRY or (types[i] == b"hash" and latest != UP_TO_NOTHING):
                hashes.append((i, value))
                continue
            tokens[i] = digest((types[i], *kinds[i].parts(value)))
        times = self.server.field_expiries(db, [(args[i], sorted(value)) for i, value in hashes])
        for (i, value), found in zip(hashes, times, strict=True):
            lasts = {field: at for field, at in zip(sorted(value), found, strict=True) if not 0 <= at <= latest}
            if not lasts:
                continue
            if things[i].aspect is Aspect.EXPIRY:
                tokens[i] = self._expiry_token(expiries[i], lasts)
            else:
                tokens[i] = digest((types[i], *kinds[i].parts({field: value[field] for field in lasts})))

    def _expiry_token(self, expiry: int, fields: dict[bytes, int]) -> bytes:
        if expiry == UNKNOWN:
            return b"unknown %d" % self.place
        parts = [b"%d" % self.shift.key(expiry)]
        for name, moment in fields.items():
            if moment != NO_EXPIRY:
                parts += [name, b"%d" % self.shift.field(moment)]
        return digest(parts)
