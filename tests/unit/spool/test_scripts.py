"""Bodies of scripts are known by their digests, also to the next owner."""

from __future__ import annotations

import hashlib
from pathlib import Path

from workers.spool.scripts import Scripts

BODIES = [b"return 1", b"return redis.call('GET', KEYS[1])\r\n -- \xff", b""]


def digest(body: bytes) -> bytes:
    return hashlib.sha1(body).hexdigest().encode()


def test_they_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "node" / "scripts"
    first = Scripts(path)
    assert first.get(digest(BODIES[0])) is None
    for body in [*BODIES, *BODIES]:
        first.add(body)
    size = path.stat().st_size
    for known in (first, Scripts(path)):
        assert [known.get(digest(body).upper()) for body in BODIES] == BODIES
    assert size == path.stat().st_size < 200, "each once"


def test_a_torn_file_says_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "scripts"
    for body in BODIES:
        Scripts(path).add(body)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        known = Scripts(path)
        found = [known.get(digest(body)) for body in BODIES]
        assert all(got in (None, body) for got, body in zip(found, BODIES, strict=True))
    path.write_bytes(b"\x00" * 50)
    assert Scripts(path).get(digest(BODIES[0])) is None


def test_where_nothing_can_be_kept_it_is_known_for_now(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    known = Scripts(tmp_path / "file" / "scripts")
    known.add(BODIES[0])
    assert known.get(digest(BODIES[0])) == BODIES[0]
