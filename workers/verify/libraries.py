"""Function libraries of both sides, where both know them (7.0)."""

from __future__ import annotations

from collections.abc import Sequence

from workers.verify.findings import Finding, Kind
from workers.verify.flux import Token
from workers.verify.server import Server
from workers.verify.sides import Sides
from workers.verify.streams import table
from workers.verify.values import digest
from workers.verify.wire import pack

LIST = pack(b"FUNCTION", b"LIST", b"WITHCODE")
FIELD = b"functions"


def libraries(server: Server) -> dict[bytes, Token]:
    """Each library's name and a token of its engine and code; of a cluster, of what each of its masters has there."""
    nodes = [
        {item[b"library_name"]: digest((item[b"engine"], item[b"library_code"])) for item in map(table, said)}
        for said in server.link.everywhere(LIST)
    ]
    found: dict[bytes, Token] = {}
    for name in {name for node in nodes for name in node}:
        all_same = {node.get(name, b"") for node in nodes}
        found[name] = all_same.pop() if len(all_same) == 1 else b"differs %s" % server.endpoint.side.value.encode()
    return found


def differing_libraries(sides: Sides) -> list[Finding]:
    """Libraries that differ for good; they belong to no database, and their key is the library's name."""
    if not (sides.source.functions and sides.target.functions):
        return []

    ours, theirs = Reader(sides.source), Reader(sides.target)
    names = sorted(libraries(sides.source).keys() | libraries(sides.target).keys())
    different = [name for name, a, b in zip(names, ours.read(names), theirs.read(names), strict=True) if a != b]
    lasting = sides.patience.lasting(different, ours.read, theirs.read)
    return [Finding(None, name, Kind.VALUE, FIELD, proven=True) for name in sorted(lasting)]


class Reader:
    """Tokens of libraries of one server."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def read(self, names: Sequence[bytes]) -> list[Token]:
        """Tokens of the libraries named; None: absent."""
        present = libraries(self.server)
        return [present.get(name) for name in names]
