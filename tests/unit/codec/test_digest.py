"""Hashes of keys, in both forms."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_tasks.errors import Malformed
from tests.unit.codec.forms import form
from tests.unit.codec.rdb import record
from workers.codec.resp_cy import encode

SEED = bytes(range(16))
FORMS = ("compiled", "plain")
keys_ = st.lists(st.binary(max_size=40), max_size=30)


@pytest.mark.parametrize("name", FORMS)
def test_the_vectors_of_the_reference(name: str) -> None:
    """vectors.h of https://github.com/veorq/SipHash, vectors_sip128: the first bytes 0, 1, ... as input."""
    key_hash = form(name).digest.key_hash
    assert key_hash(b"", SEED).hex() == "a3817f04ba25a8e66df67214c7550293"
    assert key_hash(b"\0", SEED).hex() == "da87c1d86b99af44347659119b22fc45"


@given(st.binary(max_size=100), st.binary(min_size=16, max_size=16))
def test_both_forms_hash_alike(key: bytes, seed: bytes) -> None:
    compiled, plain = (form(name).digest.key_hash(key, seed) for name in FORMS)
    assert compiled == plain
    assert len(compiled) == 16
    assert key == b"" or compiled != form("compiled").digest.key_hash(key[:-1], seed)


@given(keys_, st.integers(0, 6))
def test_records_and_commands_give_the_hashes_of_their_keys(keys: list[bytes], bits: int) -> None:
    records = b"".join(record(key, 0, b"value", -1) for key in keys)
    stream = b"".join(encode([b"SET", key, b"value"]) for key in keys) + encode([b"PING"])
    for name in FORMS:
        digest = form(name).digest
        whole = b"".join(digest.key_hash(key, SEED) for key in keys)
        assert digest.record_hashes(records, SEED) == whole
        assert set(cut(digest.command_hashes(stream, 0, len(stream), len(keys) + 1, SEED))) == set(cut(whole))
        parts = [digest.record_hashes(records, SEED, bits, part) for part in range(1 << bits)]
        assert parts == [digest.of_part(whole, bits, part) for part in range(1 << bits)]
        assert sorted(cut(b"".join(parts))) == sorted(cut(whole))
        assert b"".join(map(digest.distinct, parts)) == digest.distinct(whole)


@pytest.mark.parametrize("name", FORMS)
def test_many_records_grow_the_room(name: str) -> None:
    keys = [b"%d" % i for i in range(3000)]
    digest = form(name).digest
    hashes = digest.record_hashes(b"".join(record(key, 0, b"", -1) for key in keys), SEED)
    assert hashes == b"".join(digest.key_hash(key, SEED) for key in keys)


@pytest.mark.parametrize("name", FORMS)
def test_a_key_that_comes_again_and_again_is_put_down_once(name: str) -> None:
    keys = [b"%d" % (i % 4) for i in range(10_000)]
    digest = form(name).digest
    stream = b"".join(encode([b"INCR", key]) for key in keys)
    hashes = digest.command_hashes(stream, 0, len(stream), len(keys), SEED)
    assert sorted(cut(hashes)) == sorted(digest.key_hash(key, SEED) for key in set(keys))


def test_more_commands_than_were_told_do_no_harm() -> None:
    stream = b"".join(encode([b"INCR", b"%d" % i]) for i in range(10))
    for name in FORMS:
        assert len(form(name).digest.command_hashes(stream, 0, len(stream), 3, SEED)) == 3 * 16


@pytest.mark.parametrize("count", [64, 65, 5000])
def test_many_are_sorted(count: int) -> None:
    """Also those that begin alike, and that come twice."""
    rng = random.Random(count)
    some = [rng.randbytes(16) for _ in range(count)]
    some += [some[0][:size] + rng.randbytes(16 - size) for size in range(16)] + rng.sample(some, count // 2)
    rng.shuffle(some)
    for name in FORMS:
        assert cut(form(name).digest.distinct(b"".join(some))) == sorted(set(some))


@given(st.binary(max_size=60))
def test_a_record_that_is_cut_short_is_told(key: bytes) -> None:
    whole = record(key, 0, b"value", -1)
    for name in FORMS:
        for size in range(1, len(whole)):
            with pytest.raises(Malformed):
                form(name).digest.record_hashes(whole[:size], SEED)


@given(keys_, keys_)
def test_sets(one: list[bytes], other: list[bytes]) -> None:
    for name in FORMS:
        digest = form(name).digest
        had, have = (digest.distinct(b"".join(digest.key_hash(k, SEED) for k in keys)) for keys in (one, other))
        assert cut(had) == sorted({digest.key_hash(key, SEED) for key in one})
        assert cut(digest.without(had, have)) == sorted(set(cut(had)) - set(cut(have)))
        assert digest.among([*one, *other], have, SEED) == [key for key in [*one, *other] if key in other]


def cut(hashes: bytes) -> list[bytes]:
    """One by one."""
    return [hashes[at : at + 16] for at in range(0, len(hashes), 16)]
