"""Expiries of a server that knows PTTL alone, read on a clock that runs on while it answers."""

from __future__ import annotations

import random
from typing import Any

import pytest

from workers.verify.server import NO_EXPIRY, NO_KEY, PTTL, TIME, UNKNOWN, Server
from workers.verify.shift import LATEST_FIELD_MS, LATEST_KEY_MS, Shift
from workers.verify.wire import arg

START_US = 1_700_000_000_000_000


class OldLink:
    """Answers TIME and PTTL like a server before 7.0, each command taking a while."""

    def __init__(self, expiries: dict[bytes, int], us_per_command: float, seed: int = 0) -> None:
        self.expiries = expiries
        self.us = START_US
        self.cost = us_per_command
        self.rng = random.Random(seed)
        self.turns = 0

    def by_node(self, args: list[bytes]) -> list[list[int]]:
        return [list(range(len(args)))]

    def ask(self, db: int, request: bytes, count: int) -> list[Any]:
        self.turns += 1
        answers: list[Any] = []
        rest = request
        while rest:
            self.us += int(self.rng.expovariate(1 / self.cost)) + 1
            if rest.startswith(TIME):
                answers.append([b"%d" % (self.us // 1_000_000), b"%d" % (self.us % 1_000_000)])
                rest = rest[len(TIME) :]
                continue
            assert rest.startswith(PTTL)
            key = next(key for key in self.expiries if rest.startswith(PTTL + arg(key)))
            rest = rest[len(PTTL + arg(key)) :]
            answers.append(self.ttl(self.expiries[key]))
        assert len(answers) == count
        self.us += 300  # the round trip
        return answers

    def ttl(self, moment: int) -> int:
        if moment < 0:
            return moment
        now = self.us // 1000
        return NO_KEY if now > moment else moment - now


def read(expiries: dict[bytes, int], us_per_command: float, seed: int = 0) -> tuple[list[int], OldLink]:
    server = Server.__new__(Server)
    link = OldLink(expiries, us_per_command, seed)
    server.link = link  # type: ignore[assignment]
    server.exact_expiry = False
    return server.expiries(0, [arg(key) for key in expiries]), link


@pytest.mark.parametrize("us_per_command", [10, 30, 200, 900])
def test_they_are_exact_however_slow_the_server_is(us_per_command: float) -> None:
    rng = random.Random(us_per_command)
    far = START_US // 1000 + 10_000_000
    expiries = {b"key %d." % i: far + rng.randrange(10**9) for i in range(200)}

    moments, link = read(expiries, us_per_command)

    assert moments == list(expiries.values())
    assert link.turns > 1, "some had to be asked again"


def test_keys_without_expiry_and_without_being() -> None:
    moments, _ = read({b"a": NO_EXPIRY, b"b": NO_KEY}, 5)
    assert moments == [NO_EXPIRY, NO_KEY]


def test_a_key_that_expires_meanwhile_is_gone_not_zero() -> None:
    for us in range(0, 1500, 100):
        moments, _ = read({b"a": (START_US + us) // 1000}, 5, seed=us)
        assert moments[0] in (NO_KEY, (START_US + us) // 1000)


def test_a_server_too_slow_for_any_millisecond_is_not_believed() -> None:
    moments, _ = read({b"a": START_US // 1000 + 10**12}, 20_000)
    assert moments == [UNKNOWN]


def test_shifts_saturate() -> None:
    shift = Shift(600_000)
    assert shift.key(1000) == 601_000
    assert shift.key(NO_EXPIRY) == NO_EXPIRY
    assert shift.key(LATEST_KEY_MS - 5) == LATEST_KEY_MS
    assert shift.field(1000) == 601_000
    assert shift.field(LATEST_FIELD_MS - 5) == LATEST_FIELD_MS
    assert shift.field(LATEST_FIELD_MS + 5) == LATEST_FIELD_MS + 5
    assert Shift(0).key(7) == 7
