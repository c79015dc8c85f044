"""Elements of large streams: entries, what stands in the header and in groups, and what is pending."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from workers.verify.elements import Element, Elements
from workers.verify.flux import Token
from workers.verify.server import TIME, TRIES, in_ms
from workers.verify.streams import COUNTERS, table
from workers.verify.values import digest
from workers.verify.wire import arg, each, head, pack

PENDING_PAGE = 50  # entries asked for between two TIMEs: some 30 microseconds
PENDING_COUNT = b"%d" % PENDING_PAGE
LAST_SEQUENCE = 2**64 - 1


class Entries(Elements):
    """Entries by id."""

    length = b"XLEN"

    def pages(self) -> Iterator[dict[Element, Token]]:
        start = b"-"
        while True:
            found = self.place.one(b"XRANGE", self.place.key, start, b"+", b"COUNT", b"%d" % self.step)
            if not isinstance(found, list) or not found:
                return
            yield {name: digest(fields) for name, fields in found}
            start = after(found[-1][0])

    def read_page(self, elements: Sequence[Element]) -> list[Token]:
        beginning = head(4, b"XRANGE") + self.arg
        request = b"".join(beginning + arg(name) * 2 for name in elements)
        answers = self.place.ask(request, len(elements))
        return [digest(answer[0][1]) if isinstance(answer, list) and answer else None for answer in answers]

    def name(self, element: Element) -> bytes:
        return b"entry " + bytes(element)


def after(name: bytes) -> bytes:
    """The id that follows; before 6.2 a range cannot leave out its first."""
    ms, _, sequence = name.partition(b"-")
    if int(sequence) == LAST_SEQUENCE:
        return b"%d-0" % (int(ms) + 1)
    return b"%d-%d" % (int(ms), int(sequence) + 1)


class Metadata(Elements):
    """Last id, counters, groups and their consumers, each by its name in a report."""

    def count(self) -> int:
        return len(self._read())

    def pages(self) -> Iterator[dict[Element, Token]]:
        yield self._read()

    def read_page(self, elements: Sequence[Element]) -> list[Token]:
        present = self._read()
        return [present.get(element) for element in elements]

    def name(self, element: Element) -> bytes:
        return bytes(element)

    def _read(self) -> dict[Element, Token]:
        key = self.place.key
        header, groups = self.place.ask(pack(b"XINFO", b"STREAM", key) + pack(b"XINFO", b"GROUPS", key), 2)
        if not isinstance(header, list) or not isinstance(groups, list):
            return {}
        info = table(header)
        found: dict[Element, Token] = {b"last-generated-id": info[b"last-generated-id"]}
        if self.place.counters.stream:
            found |= {name: b"%b" % _text(info[name]) for name in COUNTERS if name in info}
        for group in map(table, groups):
            found |= self._group(group)
        return found

    def _group(self, group: dict[bytes, Any]) -> dict[Element, Token]:
        name = b"group " + group[b"name"]
        found: dict[Element, Token] = {name + b" last-delivered-id": group[b"last-delivered-id"]}
        if self.place.counters.group:
            found[name + b" entries-read"] = b"%r" % group.get(b"entries-read")
        consumers = self.place.one(b"XINFO", b"CONSUMERS", self.place.key, group[b"name"])
        if isinstance(consumers, list):
            found |= {name + b" consumer " + table(consumer)[b"name"]: b"in" for consumer in consumers}
        return found


class PendingEntries(Elements):
    """Pending entries by (group, id): consumer, moment of the last delivery, number of deliveries.

    XPENDING tells how long ago an entry was delivered; with TIME before and after in the same millisecond,
    that is the exact moment. XINFO STREAM FULL would say it at once, but not in pages.
    """

    def _step(self) -> int:
        return PENDING_PAGE

    def count(self) -> int:
        return sum(group[b"pending"] for group in self._groups())

    def _groups(self) -> list[dict[bytes, Any]]:
        answer = self.place.one(b"XINFO", b"GROUPS", self.place.key)
        return [table(group) for group in answer] if isinstance(answer, list) else []

    def pages(self) -> Iterator[dict[Element, Token]]:
        for group in self._groups():
            name = group[b"name"]
            start = b"-"
            while True:
                found = self._timed([pack(b"XPENDING", self.place.key, name, start, b"+", PENDING_COUNT)])[0]
                if not found:
                    break
                yield {(name, entry[0]): _pending(entry) for entry in found}
                start = after(found[-1][0])

    def read_page(self, elements: Sequence[Element]) -> list[Token]:
        key = self.place.key
        requests = [pack(b"XPENDING", key, group, name, name, b"1") for group, name in elements]
        return [_pending(found[0]) if found else None for found in self._timed(requests)]

    def _timed(self, requests: list[bytes]) -> list[list[list[Any]]]:
        """Answers to XPENDING commands, each entry's idle time replaced by its moment in ms since 1970."""
        out: list[list[list[Any]]] = [[] for _ in requests]
        todo = list(range(len(requests)))
        for _ in range(TRIES):
            if not todo:
                break
            request = TIME + each(b"", [requests[i] for i in todo], TIME)
            answers = self.place.ask(request, 1 + 2 * len(todo))
            again = []
            for place, i in enumerate(todo):
                before, found, later = answers[2 * place : 2 * place + 3]
                if not isinstance(found, list):
                    continue
                out[i] = [[name, who, in_ms(before) - idle, count] for name, who, idle, count in found]
                if found and in_ms(before) != in_ms(later):
                    again.append(i)
            todo = again
        return out

    def name(self, element: Element) -> bytes:
        group, name = element
        return b"group " + bytes(group) + b" pending " + bytes(name)


def _pending(entry: list[Any]) -> bytes:
    name, who, moment, count = entry
    return digest((name, who, b"%d %d" % (moment, count)))


def _text(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b"%d" % value
