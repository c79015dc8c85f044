"""The layouts of what stands in an RDB, by family and version of its header, as programs for the walker.

Redis and Valkey have parted: since version 12 and 80 the same number of a type or opcode means different things.
Source: Redis src/rdb.h and rdb.c (rdbSaveObject, rdbLoadObject, rdbSaveHashTemplates), keymeta.c
(rdbSaveKeyMetadata); Valkey src/rdb.h, rdb.c and cluster_migrateslots.c (clusterRDBSaveSlotImports).
"""

from __future__ import annotations

from sync_tasks.errors import Malformed

CHECK = "start over; if it happens again, check the source's data with redis-check-rdb"
"""Hint for bytes that do not follow their format."""

INSTEAD = (
    "delete it on the source, or use a version of keyferry that knows it; "
    'one with `reader = "scan"` will carry it from server to server'
)
"""Hint for what is not carried."""

REDIS_VERSIONS = range(1, 16)
VALKEY_VERSIONS = range(80, 82)

TIMED_HASHES = range(22, 26)
"""Types of hashes whose fields may expire: in Redis all four, in Valkey the first, of another layout."""

COLLECTIONS = (1, 2, 3, 4, 5, 14, 18, 22)
"""Types whose value, if it is one byte of 0, has nothing in it. (Valkey 9 makes such a hash by COPY of one whose fields
are all over.)"""
FOOTER_BYTES = 10
"""Behind a value in what DUMP gives."""


def is_nothing(payload: bytes) -> bool:
    """Whether what DUMP gives is a collection of nothing, which no server takes."""
    return len(payload) == 2 + FOOTER_BYTES and payload[0] in COLLECTIONS and payload[1] == 0


TEMPLATED_LISTPACK = 30
TEMPLATED_ARRAY = 32
TEMPLATE = 242
KEY_META = 243

# Letters of a program: S string; L length; 4, 8, 6: four, eight, sixteen bytes; T a score as text; N..E the
# body that follows a count; K a count that W..E uses later; H..E the values of a hash of a template; F whether the
# next letter is there; A tag of an array's element; C container kind of a quicklist node; U length that must be 2;
# M..J the opcodes of a module value; X over them; "." the end.
_MODULE = b"M.LJ4J8JSJ"
_META = b"MXLJ4J8JSJ"
_NODES = b"NSSE"
_GROUP = b"NSLLLN68LENS88N6EE"
_PRODUCERS = b"LLNSNSLLEELL."

_COMMON: dict[int, bytes] = {
    0: b"S.",
    1: b"NSE.",
    2: b"NSE.",
    3: b"NSTE.",
    4: b"NSSE.",
    5: b"NS8E.",
    7: b"L" + _MODULE,
    9: b"S.",
    10: b"S.",
    11: b"S.",
    12: b"S.",
    13: b"S.",
    14: b"NSE.",
    15: _NODES + b"LLLNSLLN68LENS8N6EEE.",
    16: b"S.",
    17: b"S.",
    18: b"NCSE.",
    19: _NODES + b"LLLLLLLLNSLLLN68LENS8N6EEE.",
    20: b"S.",
    21: _NODES + b"LLLLLLLL" + _GROUP + b"E.",
    244: b"LLL.",
    245: b"S.",
    247: b"LUL" + _MODULE,
    248: b"L.",
    250: b"SS.",
}
_VALKEY: dict[int, bytes] = _COMMON | {22: b"NSS8E.", 243: b"SNLLE."}
_REDIS: dict[int, tuple[int, bytes]] = {
    22: (12, b"NLSSE."),
    23: (12, b"S."),
    24: (12, b"8NLSSE."),
    25: (12, b"8S."),
    26: (13, _NODES + b"LLLLLLLL" + _GROUP + b"E" + _PRODUCERS),
    27: (14, _NODES + b"LLLLLLLL" + _GROUP + b"N6EE" + _PRODUCERS),
    28: (14, b"KFLWLASE."),
    TEMPLATED_LISTPACK: (15, b"S."),
    TEMPLATED_ARRAY: (15, b"HSE."),
    TEMPLATE: (15, b"LNSE."),
    KEY_META: (13, b"N4" + _META + b"E."),
}
"""What Redis alone has, with the first version of its RDB that has it."""

CODE: bytes = b"." + b"".join([*_VALKEY.values(), *(program for _, program in _REDIS.values())])
"""All programs, one after the other; the first byte is no program's."""

_NAMES = {
    6: "a module of a pre-release server",
    29: "a hash template as DUMP writes it, which no snapshot has",
    31: "a hash template as DUMP writes it, which no snapshot has",
    33: "GCRA, which no release writes",
    34: "the HyperLogLog of a pre-release server",
    246: "functions of a pre-release server",
}


def starts(family: str, version: int) -> bytes:
    """Where in CODE the program of each type and opcode begins, as 256 numbers of two bytes; 0: it is unknown."""
    known = _VALKEY
    if family == "REDIS":
        known = _COMMON | {kind: program for kind, (since, program) in _REDIS.items() if version >= since}
    return b"".join((CODE.index(known[n], 1) if n in known else 0).to_bytes(2, "little") for n in range(256))


def name(kind: int) -> str:
    """What is known of a type or opcode that is not carried."""
    return _NAMES.get(kind, "not known")


def header(magic: bytes) -> tuple[str, int, bool]:
    """Family, version, and whether that is known, of the nine bytes that begin an RDB. Raises Malformed."""
    family = "VALKEY" if magic.startswith(b"VALKEY") else "REDIS"
    digits = magic[len(family) :]
    if not magic.startswith(family.encode()) or not digits.isdigit():
        raise Malformed("this is not an RDB: it begins with neither REDIS nor VALKEY and a version", 0, hint=CHECK)
    version = int(digits)
    return family, version, version in (VALKEY_VERSIONS if family == "VALKEY" else REDIS_VERSIONS)
