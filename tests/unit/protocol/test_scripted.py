"""What a script's commands answer where their node does not serve a key."""

from __future__ import annotations

import pytest

from sync_tasks.errors import ConnectionLost, Retry
from workers.target.scripted import raise_away

AWAY = [
    b"-ERR Script attempted to access a non local key in a cluster node script: x, on @user_script:1.",
    b"-ERR Lua script attempted to access a non local key in a cluster node",
    b"-ERR Script attempted to access a slot not served",
    b"-MOVED 3999 127.0.0.1:6381",
    b"-TRYAGAIN Multiple keys request during rehashing of slot",
    b"-CLUSTERDOWN The cluster is down",
]


@pytest.mark.parametrize("line", AWAY)
def test_a_slot_on_its_way_is_waited_for_as_long_as_for_a_connection(line: bytes) -> None:
    with pytest.raises(ConnectionLost) as caught:
        raise_away(line)
    assert (caught.value.code, caught.value.retry) == ("slot-moving", Retry.CONNECTION)
    raise_away(line, scripted=False)


def test_any_other_refusal_is_the_commands_own() -> None:
    raise_away(b"-WRONGTYPE Operation against a key holding the wrong kind of value")
    raise_away(b"-ERR more arguments than a script passes on")
