"""Values in the forms of other servers: these take them, and show what their source shows."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
import redis

from sync_tasks.errors import Malformed, UnsupportedType
from tests.servers import Server, start
from tests.unit.codec.dataset import EXPECTED, FAR, TIMED, content, fill, shown
from tests.unit.codec.newer import MIN, NEWER
from tests.unit.codec.rdb import commands, length, raw, record
from tests.unit.codec.samples import VALUES, stream, timed_hash
from workers.codec.reads import Reads

VERSIONS = {"redis-6.2": 9, "redis-7.0": 10, "valkey-8.1": 11, "redis-8.2": 12, "valkey-9.1": 80}
PAIRS = [
    (source, target)
    for source in ("redis-7.0", "valkey-8.1", "redis-8.2", "valkey-9.1")
    for target in VERSIONS
    if not Reads(VERSIONS[target]).takes_all(VERSIONS[source]) and source != target
]


def of(codec: Any, kind: int, value: bytes, source: int, target: int, hold: int = 0) -> tuple[int, bytes, int]:
    reads = Reads(target)
    done: tuple[int, bytes, int] = codec.convert(kind, value, source, reads.timed, reads.stream, hold)
    return done


# --- real servers


def _started(servers: dict[str, Server], kind: str, place: str) -> redis.Redis:
    if kind + place not in servers:
        servers[kind + place] = start(kind)
        servers[kind + place].__enter__()
        if place == "source":
            fill(servers[kind + place].client(), kind)
    client = servers[kind + place].client()
    if place == "target":
        client.flushall()
    return client


@pytest.mark.parametrize(("kind", "to"), PAIRS)
def test_targets_show_what_sources_do(codec: Any, servers: dict[str, Server], kind: str, to: str) -> None:
    source, target = _started(servers, kind, "source"), _started(servers, to, "target")
    converted, lost = set(), 0
    for key in source.scan_iter(count=1000):
        dump = source.dump(key)
        version = int.from_bytes(dump[-10:-8], "little")
        reads = Reads(int.from_bytes(_dump(target)[-10:-8], "little"))
        assert reads.version >= VERSIONS[to]
        value, here = dump[:-10], 0
        if not reads.takes(value[0], version):
            converted.add(value[0])
            new, body, here = of(codec, value[0], value[1:], version, reads.version)
            value = bytes([new]) + body
        encoder = codec.RestoreEncoder(reads.footer(version))
        out, _, _ = encoder.encode(record(key, value[0], value[1:]), 0, 1, 1 << 20)
        for argv in commands(out):
            assert target.execute_command(*argv) == b"OK", key
        if value[0] in (15, 19, 21):
            counters = "redis-6.2" not in (kind, to)
            assert shown(target, key, counters) == shown(source, key, counters), key
        elif here:
            assert target.hgetall(key) == source.hgetall(key)
        else:
            assert content(target, key) == content(source, key), key
        lost += here
    assert (lost > 0) == (kind in TIMED and to not in TIMED)
    assert converted == {k for k in EXPECTED[kind] if not Reads(VERSIONS[to]).takes(k, VERSIONS[kind])}
    assert converted


def _dump(client: redis.Redis) -> bytes:
    client.set("some", 1)
    dump = client.dump("some")
    assert isinstance(dump, bytes)
    return dump


# --- forms


@pytest.mark.parametrize(("kind", "source"), [(22, 80), (22, 12), (23, 12), (24, 12), (25, 12)])
def test_hashes_whose_fields_expire(codec: Any, kind: int, source: int) -> None:
    fields = [(b"f", b"v", -1), (b"g", b"w", MIN), (b"h", b"x" * 200, MIN + 5)]
    value = timed_hash(fields) if source == 80 else NEWER[kind]
    assert of(codec, kind, value, source, 80) == (22, timed_hash(fields), 0)
    later = [(f, v, t + 9 if t > 0 else t) for f, v, t in fields]
    assert of(codec, kind, value, source, 80, 9) == (22, timed_hash(later), 0)
    plain = length(3) + b"".join(raw(f) + raw(v) for f, v, _ in fields)
    assert of(codec, kind, value, source, 11) == (4, plain, 2)
    hold = 1 << 45
    new, body, lost = of(codec, kind, value, source, 12, hold)
    times = [length(t - MIN + 1 if t > 0 else 0) for _, _, t in fields]
    parts = [t + raw(f) + raw(v) for t, (f, v, _) in zip(times, fields, strict=True)]
    assert (new, body, lost) == (24, struct.pack("<q", MIN + hold) + length(3) + b"".join(parts), 0)


def test_times_that_never_come_are_not_held(codec: Any) -> None:
    value = timed_hash([(b"f", b"v", 1 << 44), (b"g", b"w", 5)])
    _, body, _ = of(codec, 22, value, 80, 12, 1 << 45)
    assert body == struct.pack("<q", 1 << 44) + length(2) + length(1) + raw(b"f") + raw(b"v") + length(
        (1 << 45) + 5 - (1 << 44) + 1
    ) + raw(b"g") + raw(b"w")


@pytest.mark.parametrize(("target", "version"), [(9, 1), (10, 2), (11, 3), (80, 3)])
@pytest.mark.parametrize("source", [2, 3, 4, 5])
def test_streams_as_older_servers_know_them(codec: Any, source: int, target: int, version: int) -> None:
    kind = {2: 19, 3: 21, 4: 26, 5: 27}[source]
    if version >= source:
        assert Reads(target).takes(kind, 14)
        return
    new, body, lost = of(codec, kind, stream(source), 14, target)
    assert new == {1: 15, 2: 19, 3: 21}[version]
    assert body == stream(version)
    assert lost == (2 if source >= 4 else 0)  # its producers


def test_what_is_pending_of_nobody_is_left_out(codec: Any) -> None:
    nobody = b"i" * 16
    value = stream(5).replace(length(3) + b"n" * 48, length(1) + nobody)
    new, body, lost = of(codec, 27, value, 14, 11)
    assert new == 21
    one = length(2) + (nobody + b"d" * 8 + length(300)) * 2
    assert body == stream(3).replace(one, length(0), 1)
    assert lost == 2 + 2


def test_what_one_line_alone_has(codec: Any) -> None:
    with pytest.raises(UnsupportedType, match="type 28"):
        of(codec, 28, NEWER[28], 14, 80)


@pytest.mark.parametrize("kind", [16, 17, 18, 20, 21, 22, 24, 25, 26, 27])
def test_damaged_values(codec: Any, kind: int) -> None:
    """Each ends in the typed error, or is a value that some server might have; nothing else is raised."""
    value = NEWER[kind] if kind in NEWER and kind != 22 else VALUES[kind]
    rng = random.Random(kind)
    errors = 0
    for _ in range(1500):
        damaged = bytearray(value)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        cut = bytes(damaged[: rng.randint(0, len(damaged))] if rng.random() < 0.3 else damaged)
        try:
            of(codec, kind, cut, 80 if kind == 22 else 14, 9)
        except Malformed:
            errors += 1
    assert errors > 200


# --- chunks


def _records(codec: Any, target: int) -> tuple[bytes, Any]:
    reads = Reads(target)
    buf = b"".join(record(b"k%d" % k, k, v, FAR + k) for k, v in sorted(VALUES.items()) if k not in (3, 9))
    return buf, codec.Transcriber(reads.table(80), 80, reads.timed, reads.stream, 0)


def test_a_stream_of_any_size_is_converted(codec: Any) -> None:
    """Nothing of it is unpacked."""
    _, transcriber = _records(codec, 9)
    buf = record(b"s", 21, stream(3)) + record(b"h", 16, VALUES[16])
    out, keys, pos = transcriber.take(buf, 0, 9, 1 << 20, 10)
    assert (keys, pos) == (1, len(record(b"s", 21, stream(3))))
    assert bytes(out) == record(b"s", 15, stream(1))


@pytest.mark.parametrize("target", [12, 80])
def test_times_that_are_none(codec: Any, target: int) -> None:
    """Whatever they are, none is written that the target would not take."""
    for time in (-2, -(1 << 63), -1 << 40):
        with pytest.raises(Malformed, match="no time"):
            of(codec, 22, timed_hash([(b"f", b"v", time)]), 80, target)
    least = struct.pack("<q", (1 << 63) - 5)
    with pytest.raises(Malformed, match="no time"):
        of(codec, 24, least + length(1) + length(9) + raw(b"f") + raw(b"v"), 12, target)
    with pytest.raises(Malformed, match="before 1970"):
        of(codec, 24, struct.pack("<q", -5) + length(1) + length(9) + raw(b"f") + raw(b"v"), 12, target)
    _, body, _ = of(codec, 22, timed_hash([(b"f", b"v", (1 << 63) - 1)]), 80, target, 1 << 45)
    latest = (1 << 46) - 1 if target == 12 else (1 << 63) - 1
    assert struct.pack("<q", latest) in body


def test_a_chunk_is_transcribed_in_parts(codec: Any) -> None:
    buf, transcriber = _records(codec, 9)
    out, pos, keys = b"", 0, 0
    while pos < len(buf):
        part, some, pos = transcriber.take(buf, pos, 3, 1 << 20, 1 << 20)
        assert 0 < some <= 3
        out, keys = out + bytes(part), keys + some
    found = [(bytes(k), t) for k, t in codec.RestoreEncoder(9).iter_keys(out)]
    assert found == [(b"k%d" % k, FAR + k) for k in sorted(VALUES) if k not in (3, 9)]
    assert keys == len(found)
    kinds = set()
    pos = 0
    while pos < len(out):
        klen, vlen = struct.unpack_from("<II", out, pos + 8)
        kinds.add(out[pos + 16 + klen])
        pos += 16 + klen + vlen
    assert max(kinds) == 15
    assert transcriber.lost == 3  # the hash's expiries


def test_where_it_stops(codec: Any) -> None:
    buf, transcriber = _records(codec, 9)
    first = record(b"key", 16, VALUES[16])
    assert transcriber.take(first, 0, 9, 1 << 20, len(VALUES[16]))[1:] == (0, 0)
    assert transcriber.take(first, 0, 9, 1 << 20, len(VALUES[16]) + 1)[1:] == (1, len(first))
    assert transcriber.take(buf + first[:-1], 0, 1 << 20, 1 << 30, 1 << 20)[2] == len(buf)
    assert transcriber.take(b"", 0, 9, 1 << 20, 1 << 20)[1:] == (0, 0)
    whole = record(b"key", 4, VALUES[4])
    assert transcriber.take(whole, 0, 9, 1 << 20, 0)[0] == whole


def test_a_damaged_value_is_named_by_its_place(codec: Any) -> None:
    buf, transcriber = _records(codec, 9)
    bad = record(b"key", 16, raw(b"no listpack"))
    with pytest.raises(Malformed) as raised:
        transcriber.take(buf + bad, 0, 1 << 20, 1 << 30, 1 << 20)
    assert len(buf) < raised.value.offset <= len(buf + bad)


def test_a_value_of_another_line_is_named_by_its_type(codec: Any) -> None:
    buf, transcriber = _records(codec, 9)
    array = record(b"array", 28, NEWER[28])
    with pytest.raises(UnsupportedType, match=r"type 28.* of key b'array', at byte") as raised:
        transcriber.take(buf + array, 0, 1 << 20, 1 << 30, 1 << 20)
    assert raised.value.hint
    assert transcriber.first == b"k22"


@pytest.mark.parametrize(
    ("source", "target", "footer", "all_taken"),
    [(9, 80, 9, True), (11, 12, 11, True), (12, 80, 11, False), (80, 12, 11, False), (81, 80, 80, True),
     (80, 9, 9, False), (14, 12, 12, False), (11, 9, 9, False), (10, 10, 10, True)],
)  # fmt: skip
def test_what_a_payload_states(source: int, target: int, footer: int, all_taken: bool) -> None:
    assert Reads(target).footer(source) == footer
    assert Reads(target).takes_all(source) == all_taken
