"""What the target rightly still holds though its time is over on the source.

A sync writes every expiry to the target later by the extension. Once nobody carries the source's DEL any more, a key
that has expired there lives on here until the extension is over, too; so does a field of a hash, which the source
hides at once and tells nobody of until it removes it. Such a key or field is explained by its own expiry alone: it
must have one, and one that, less the extension, has passed on the source's clock. What has none, or a later one (a
held one lies 2^60 ms later), is not explained.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.verify.findings import Pair
from workers.verify.server import NO_KEY, Server
from workers.verify.shift import Shift
from workers.verify.wire import arg, head

HASHES = 100  # walked together
FIELDS = 100  # asked of each at once; a small hash shows all it has

HSCAN = head(6, b"HSCAN")
HSCAN_END = arg(b"COUNT") + arg(b"%d" % FIELDS) + arg(b"NOVALUES")  # known to all who know expiries of fields

UP_TO_NOTHING = -1


class Outlived:
    """Asks the target alone, so that the source may be read meanwhile; of the source it uses what its clock said last.

    Args:
        source, target: the servers.
        shift: the extension.
    """

    def __init__(self, source: Server, target: Server, shift: Shift) -> None:
        self.source = source
        self.target = target
        self.shift = shift
        self.timed_fields = source.field_expiry and target.field_expiry
        self.count = 0  # keys that were explained, whole or in some of their fields

    def latest_key(self) -> int:
        """The latest expiry of a key on the target, in ms since 1970, whose time is over on the source."""
        return self.source.clock_ms() + self.shift.ms

    def latest_field(self) -> int:
        """The same of a hash field; -1 where one of the servers knows no expiries of fields."""
        return self.latest_key() if self.timed_fields else UP_TO_NOTHING

    def keys(self, pair: Pair, keys: Sequence[bytes]) -> set[bytes]:
        """Those of `keys`, which the source lacks, that the target may hold, or that are gone there as well."""
        latest = self.latest_key()
        args = [arg(key) for key in keys]
        moments = self.target.expiries(pair.target, args)
        over = {key for key, moment in zip(keys, moments, strict=True) if moment == NO_KEY or 0 <= moment <= latest}
        left = [key for key in keys if key not in over]
        for start in range(0, len(left) if self.timed_fields else 0, HASHES):
            over |= self._hashes(pair.target, left[start : start + HASHES])
        self.count += len(over)
        return over

    def fields(self, db: int, hashes: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[set[bytes]]:
        """The same for fields of hashes (packed key, fields that the source lacks) in a database of the target."""
        if not self.timed_fields:
            return [set() for _ in hashes]
        latest = self.latest_field()
        times = self.target.field_expiries(db, hashes)
        return [
            {field for field, moment in zip(fields, found, strict=True) if moment == NO_KEY or 0 <= moment <= latest}
            for found, (_, fields) in zip(times, hashes, strict=True)
        ]

    def _hashes(self, db: int, keys: Sequence[bytes]) -> set[bytes]:
        """Those of `keys` that are hashes whose every field is over: with the last one the source drops the key."""
        args = [arg(key) for key in keys]
        types = self.target.types(db, args)
        cursors = {i: b"0" for i, name in enumerate(types) if name == b"hash"}
        over: set[bytes] = set()
        while cursors:
            request = b"".join(HSCAN + args[i] + arg(cursor) + HSCAN_END for i, cursor in cursors.items())
            pages = self.target.link.ask(db, request, len(cursors), loose=True)
            shown = {i: page for i, page in zip(cursors, pages, strict=True) if isinstance(page, list)}
            wanted = [(i, fields) for i, (_, fields) in shown.items() if fields]
            explained = self.fields(db, [(args[i], fields) for i, fields in wanted])
            stays = {i for (i, fields), gone in zip(wanted, explained, strict=True) if len(gone) < len(set(fields))}
            over |= {keys[i] for i, (cursor, _) in shown.items() if i not in stays and cursor == b"0"}
            cursors = {i: cursor for i, (cursor, _) in shown.items() if i not in stays and cursor != b"0"}
        return over
