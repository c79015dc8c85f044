"""Source and target by the names that Sentinels know them by: both masters die under traffic, and replicas follow."""

from __future__ import annotations

import time

import pytest

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal
from tests.sentinels import Sentinels
from tests.traffic import Traffic


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1", "redis-6.2"])
def test_both_sides_fail_over(kind: str, ferry: StartFerry) -> None:
    with Sentinels(kind, "orders", "bills") as sentinels:
        source, target = sentinels["orders"], sentinels["bills"]
        fill(source.client(), 300)
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        with Traffic(source.master, clients=2, rate=1000):
            time.sleep(0.5)
            source.fail_over()
        run.settle(source)
        with Traffic(source.master, clients=2, rate=1000, seed=2):
            time.sleep(0.5)
            target.fail_over()
            before = run.last["applied_offset"] or 0
            run.wait_for(lambda line: (line["applied_offset"] or 0) > before and not line["retry"], what="it goes on")
            time.sleep(0.5)
        run.settle(source)
        equal(source.master, target.master)
