"""A minute of `make fuzz`, with the seeds that need no server."""

from __future__ import annotations

import os

import pytest

from tests.fuzz.run import fuzz, targets
from workers.codec import core


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.long)])
def test_damage_ends_in_typed_errors(seconds: int) -> None:
    if core() != "compiled":
        if os.environ.get("CI") == "true":
            pytest.fail("the core is not compiled, and CI must not skip this")
        pytest.skip("the core is not compiled")
    tally = fuzz(seconds, seed=seconds)
    assert tally.cases > 10 * seconds
    assert set(tally.refused) == {target.name for target in targets()}
    assert sum(tally.refused.values()) > tally.cases / 10
