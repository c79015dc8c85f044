"""What a script's commands answer where their node does not serve a key."""

from __future__ import annotations

import pytest

from sync_tasks.errors import ConnectionLost, Retry
from workers.compose import alone
from workers.target.scripted import check_alone, raise_away
from workers.target.windows import Window

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


def test_before_a_node_is_emptied_nothing_is_in_flight() -> None:
    """It is asked which slots it serves, on the same connection; of another database than that of our own keys, too."""
    window = Window(first=0, selected=3)
    alone(window, [b"FLUSHDB"], "0-99", 7)
    assert window.alone
    assert window.command(0) == ([b"FLUSHDB"], 7)


def test_a_node_is_emptied_only_while_it_serves_its_own_slots() -> None:
    nodes = b"a h:1@2 master - 0 0 1 connected 100-16383\nb h:3@4 myself,master - 0 0 2 connected 0-98 99%b\n"
    check_alone(nodes % b"", "0-98,99")
    for mark in (b" 200", b" [17->-a]", b" [200-<-a]"):
        with pytest.raises(ConnectionLost) as caught:
            check_alone(nodes % mark, "0-98,99")
        assert caught.value.code == "slot-moving"
