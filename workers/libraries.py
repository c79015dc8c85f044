"""FUNCTION commands of a cluster's nodes: each node has all libraries, and so each stream brings the same commands.

Whichever stream comes last, a library is as it says; what another stream has done already is no error.
"""

from __future__ import annotations


def repeatable(argv: list[bytes]) -> list[list[bytes]]:
    """What does the same as a FUNCTION command, and may be done more than once."""
    if argv[0].upper() != b"FUNCTION" or len(argv) < 3:
        return [argv]
    name = argv[1].upper()
    if name == b"LOAD":
        return [[*argv[:2], b"REPLACE", argv[-1]]]
    if name == b"RESTORE" and (len(argv) == 3 or argv[3].upper() == b"APPEND"):
        return [[*argv[:3], b"REPLACE"]]
    if name == b"DELETE":
        return [[argv[0], b"LOAD", b"REPLACE", _standing_for(argv[2])], argv]  # it may be gone already
    return [argv]


def _standing_for(library: bytes) -> bytes:
    return b"#!lua name=%b\nredis.register_function('keyferry_%b', function() end)" % (library, library)
