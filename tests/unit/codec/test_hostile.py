"""Truncated and damaged RDBs: typed errors or a clean wait for more, the same in both forms, nothing else."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sync_tasks.errors import Malformed
from tests.unit.codec.forms import form
from tests.unit.codec.rdb import Framed, frame
from tests.unit.codec.samples import all_types

RDB = all_types()
OFF = RDB[:-8] + bytes(8)
"""Without a checksum, so that damage is not found only there."""


def _outcome(codec: Any, data: bytes, huge: int, sizes: list[int]) -> Any:
    framer, framed = codec.Framer(4, huge), Framed()
    try:
        framed = frame(framer, 4, data, sizes)
    except Malformed as error:
        with pytest.raises(Malformed):
            framer.next()
        return error.message, error.offset, type(error).__name__
    encoder = codec.RestoreEncoder(80, 1 << 60, 1 << 45)
    for buf in framed.buffers.values():
        pos = 0
        try:
            while pos < len(buf):
                _, keys, after = encoder.encode(buf, pos, 5, 1 << 20)
                assert keys
                pos = after
        except Malformed as error:
            framed.events.append(("refused", error.message, error.offset))
    return framed.events, framed.buffers


def test_truncated_anywhere_it_waits(codec: Any) -> None:
    step = 1 if codec is form("compiled") else 29
    for cut in range(0, len(RDB), step):
        framed = frame(codec.Framer(4), 4, RDB[:cut])
        assert not framed.events or framed.events[-1][0] != "end"


@pytest.mark.parametrize("seed", range(4))
def test_damage_is_a_typed_error_or_harmless(seed: int) -> None:
    rng = random.Random(seed)
    refused = 0
    for round_ in range(1500):
        data = bytearray(OFF)
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(9, len(data))] = rng.choice([0, 255, 0x80, 0x81, 0xC3, rng.randrange(256)])
        if rng.random() < 0.3:
            start = rng.randrange(9, len(data))
            del data[start : start + rng.randrange(1, 50)]
        sizes = [rng.randrange(1, 2000) for _ in range(4)]
        huge = rng.choice([128, 8 << 20])
        found = _outcome(form("compiled"), bytes(data), huge, sizes)
        refused += isinstance(found[0], str)
        if round_ % 25 == 0:
            assert found == _outcome(form("plain"), bytes(data), huge, sizes)
    assert refused > 300


def test_noise_after_a_good_start(codec: Any) -> None:
    rng = random.Random(7)
    for _ in range(2000 if codec is form("compiled") else 200):
        noise = bytes(rng.choice([rng.randrange(256), rng.randrange(24), 251, 252]) for _ in range(200))
        _outcome(codec, b"VALKEY080" + noise, 128, [])
