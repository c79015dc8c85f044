"""Databases are added to one on the target that has others already: what the source does not have any more in one of
them may be there by another.

A key that is added is gone at the source; the target stands at an offset P, the source was asked behind it, and both
places are behind `base`. What it has left on the target is removed there, unless another database has the place by now:

    also added   it has the key at the source: that is put, or was
    in scope     the stream writes it. A MOVE or COPY to it is copied anew, as ever where a key comes into scope, so
                 nothing is left. Else, if the stream has named it since the last one of ours, it may have been applied
                 to what was left (an INCR, say), and nothing but a full sync in place is exact
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workers.difference import Difference
from workers.keys_of import Command, Key
from workers.scope import Scope
from workers.wanted import Wanted

_OURS, _HANDED, _THEIRS = "ours", "handed over", "theirs"

Named = Iterable[tuple[Command, set[Key]]]
"""Commands of the stream, and the keys that each of them names."""


class Merging:
    """What shares the target's places with what is added.

    Args:
        scope: of all that there will be.
        difference: what of it is added.
    """

    def __init__(self, scope: Scope, difference: Difference) -> None:
        self._scope, self._difference = scope, difference

    def others(self, at: Key) -> list[Key]:
        """Keys of other databases that are the same one on the target."""
        return [other for other in self._scope.together(*at) if other != at]

    def left(self, gone: Sequence[Key], there: set[Key], before: Named, behind: Named) -> list[Key]:
        """Those of keys which are gone whose place on the target is nobody else's: what is there is theirs.

        Args:
            gone: keys that are added; the source has them no more.
            there: those of their `others` that it has.
            before: what the stream names from `base` to where the target stands.
            behind: from there to where the source was asked.
        Raises Wanted if another database's key may have been mixed with what was left.
        """
        streamed = {at: {(db, key) for db, key in self.others(at) if self._difference.had(db, key)} for at in gone}
        last, later = _last(streamed, before), {place for _, named in behind for place in named}
        left: list[Key] = []
        for at, theirs in streamed.items():
            is_there, comes = bool(theirs & there), bool(theirs & later)
            if last.get(at) == _THEIRS and (is_there or comes):
                name = at[1][:100].decode(errors="backslashreplace")
                raise Wanted(f"{name} is in one and then in another of databases that are merged while one is added")
            if theirs and (last.get(at) not in (_OURS, _THEIRS) or (is_there and not comes)):
                continue  # handed over; or still there where the target stands, then it is named again; or both had it
            if there.isdisjoint({*self.others(at)} - theirs):
                left.append(at)
        return left


def _last(streamed: dict[Key, set[Key]], named: Named) -> dict[Key, str]:
    """Who was named last, of keys that are gone and the others at their place."""
    mine: dict[Key, list[Key]] = {}
    for at, others in streamed.items():
        for place in (at, *others):
            mine.setdefault(place, []).append(at)
    last: dict[Key, str] = {}
    for _, places in named:
        for at in {at for place in places & mine.keys() for at in mine[place]}:
            if at in places:
                last[at] = _OURS if streamed[at].isdisjoint(places) else _HANDED
            elif last.get(at) == _OURS:
                last[at] = _THEIRS
    return last
