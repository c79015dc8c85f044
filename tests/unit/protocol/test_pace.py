"""Throttles: as much as was asked for, and evenly."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sync_tasks.throttle import Limits
from tests.servers import Server
from tests.unit.protocol.conftest import Followed, until
from tests.unit.protocol.test_load import RECORDS, Chunk
from workers.pace import Pace


class Time:
    """A clock that runs while one sleeps, and somewhat longer."""

    def __init__(self) -> None:
        self.now, self.rng = 0.0, random.Random(1)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds + self.rng.random() * 0.002


@pytest.mark.parametrize(
    ("limits", "commands", "size"),
    [(Limits(100.0), 10, 50), (Limits(50_000.0, 1e9), 300, 9000), (Limits(None, 2e6), 200, 100_000)],
)
def test_a_rate_is_held_within_5_percent_over_10_seconds_without_bursts(
    limits: Limits, commands: int, size: int
) -> None:
    clock = Time()
    pace = Pace(clock)
    pace.limits = limits
    most_commands, most_bytes = pace.most(commands, size)
    done: list[tuple[float, int, int]] = []
    while clock.now < 30:
        pace.wait(lambda: None, clock.sleep)
        pace.took(most_commands, most_bytes)
        done.append((clock.now, most_commands, most_bytes))
        clock.now += 0.0005  # the sending
    for unit, rate in ((1, limits.rps), (2, limits.bytes_per_s)):
        if rate is None or (unit == 2 and limits.rps is not None):
            continue
        for begin in (0, 7, 19):
            some = sum(one[unit] for one in done if begin < one[0] <= begin + 10)
            assert 0.95 * rate * 10 < some < 1.05 * rate * 10
        for begin in (x / 10 for x in range(290)):
            some = sum(one[unit] for one in done if begin < one[0] <= begin + 0.1)
            assert some <= 0.31 * rate, "never much more than a tenth of a second's worth beside its own"


def test_what_was_not_used_is_lost() -> None:
    clock = Time()
    pace = Pace(clock)
    pace.limits = Limits(1000.0)
    clock.now = 100.0
    pace.took(100, 1)
    assert pace.wait_s() == 0.0
    pace.took(100, 1)
    assert 0.09 < pace.wait_s() < 0.11
    pace.limits = Limits()
    assert pace.wait_s() == 0.0
    assert pace.most(300, 5000) == (300, 5000)


def test_waiting_ends_by_what_is_checked() -> None:
    pace = Pace()
    pace.limits = Limits(1.0)
    pace.took(100, 1)
    with pytest.raises(KeyboardInterrupt):
        pace.wait(lambda: (_ for _ in ()).throw(KeyboardInterrupt))


def test_a_stream_keeps_to_it_and_to_a_new_one_at_once(target: Server, follow: Callable[..., Followed]) -> None:
    stream = follow(target)
    stream.applier.pace.limits = Limits(500.0)
    with target.client() as client:
        stream.write([b"SELECT", b"0"], *[[b"INCR", b"n"]] * 3000)
        assert until(lambda: int(client.get("n") or 0) > 0)
        seen = [(time.monotonic(), int(client.get("n") or 0))]
        while seen[-1][0] < seen[0][0] + 3:
            time.sleep(0.1)
            seen.append((time.monotonic(), int(client.get("n") or 0)))
        (began, first), (ended, last) = seen[0], seen[-1]
        assert 430 < (last - first) / (ended - began) < 535
        # What a busy machine keeps from looking for a while is no burst.
        assert max(n - m - 500 * (b - a) for (a, m), (b, n) in itertools.pairwise(seen)) <= 100
        stream.applier.pace.limits = Limits()
        assert until(lambda: client.get("n") == b"3000", 2)


def test_bytes_of_a_stream_count_too(target: Server, follow: Callable[..., Followed]) -> None:
    stream = follow(target)
    stream.applier.pace.limits = Limits(None, 1e6)
    with target.client() as client:
        began = time.monotonic()
        for number in range(30):
            stream.write([b"SET", b"key:%d" % number, b"v" * 100_000])
        assert until(lambda: client.exists("key:29"))
        assert 2.5 < time.monotonic() - began < 4.0


def test_a_load_keeps_to_its_share_and_learns_of_another(target: Server, tmp_path: Path) -> None:
    chunk = Chunk(tmp_path / "gen", b"".join(RECORDS), 300)
    chunk.limits = Limits(100.0)
    began = time.monotonic()

    def renew(_: int) -> None:
        if time.monotonic() > began + 1:
            chunk.limits = Limits(10_000.0)

    chunk.renew = renew  # type: ignore[method-assign]
    chunk.load(target)
    assert chunk.ended == 300
    assert 1.0 < time.monotonic() - began < 2.4, "a beat has told it after a second"
