"""Who the master is, asked of Sentinels that are gone, know nothing, are behind, or want a password of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, CredentialsRefused, KeyferryError, Retry, Side
from sync_tasks.finding import CREDENTIALS, find
from tests.servers import free_port
from tests.unit.control.talking import Hall


@pytest.fixture
def hall() -> Iterator[Hall]:
    with ExitStack() as stack:
        yield Hall(stack)


def of(*ports: int, query: str = "", name: str = "orders") -> Endpoint:
    places = ",".join(f"127.0.0.1:{port}" for port in ports)
    return Endpoint.parse(f"redis+sentinel://user:pw@{places}/{name}{query}", Side.TARGET)


def test_the_first_that_answers_counts_and_is_asked_first_from_then_on(hall: Hall) -> None:
    master = hall.server()
    first, second = hall.sentinel(master), hall.sentinel(master)
    endpoint = of(free_port(), first.port, second.port)
    for _ in range(2):
        found = find(endpoint)
        assert (found.host, found.port, found.scheme, found.password) == ("127.0.0.1", master.port, "redis", "pw")
    assert first.told.count(b"GET-MASTER-ADDR-BY-NAME") == 2
    assert second.told == b""
    assert b"pw" not in first.told, "the servers' password is nothing to Sentinels"
    assert b"pw" in master.told


def test_one_that_has_not_heard_of_a_failover_is_not_believed(hall: Hall) -> None:
    master, replica = hall.server(), hall.server("slave")
    behind, ahead = hall.sentinel(replica), hall.sentinel(master)
    assert find(of(behind.port, ahead.port)).port == master.port
    with pytest.raises(ConnectionLost, match="is a replica") as caught:
        find(of(behind.port))
    assert (caught.value.code, caught.value.side, caught.value.retry) == ("no-master", Side.TARGET, Retry.CONNECTION)


def test_a_name_that_they_do_not_know(hall: Hall) -> None:
    with pytest.raises(ConnectionLost, match="knows no master orders") as caught:
        find(of(hall.sentinel(None).port, hall.sentinel(None).port))
    assert caught.value.code == "no-master"


def test_none_answers() -> None:
    port = free_port()
    with pytest.raises(ConnectionLost, match=f"the Sentinel 127.0.0.1:{port}: ") as caught:
        find(of(port))
    assert caught.value.retry is Retry.CONNECTION


def test_a_password_of_their_own(hall: Hall, tmp_path: Path) -> None:
    master = hall.server()
    closed = hall.says(SENTINEL=b"-NOAUTH Authentication required.\r\n")
    with pytest.raises(CredentialsRefused, match=f"the Sentinel 127.0.0.1:{closed.port}: ") as caught:
        find(of(closed.port))
    assert caught.value.hint == CREDENTIALS
    (tmp_path / "secret").write_text("theirs\n")
    open_ = hall.sentinel(master)
    found = find(of(open_.port, query=f"?sentinel_username=watch&sentinel_password_file={tmp_path}/secret"))
    assert found.password == "pw"
    assert b"watch\r\n$6\r\ntheirs" in open_.told


def test_what_is_no_sentinel(hall: Hall) -> None:
    with pytest.raises(KeyferryError, match="unknown command"):
        find(of(hall.server().port))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("redis+sentinel://a:1,b:2/x", "redis+sentinel://b:2,c:3/x", True),
        ("redis+sentinel://a:1,b:2/x", "redis+sentinel://a:1,b:2/y", False),
        ("redis+sentinel://a:1/x", "redis+sentinel://b:1/x", False),
        ("redis+sentinel://a:1/x", "redis+cluster://a:1", False),
        ("redis+cluster://a:1,b:1", "redis+cluster://b:1", True),
        ("redis://a:1", "redis+cluster://a:1", False),
        ("redis://u:p@a:1", "redis://a:1/3", True),
    ],
)
def test_one_place(one: str, other: str, same: bool) -> None:
    assert Endpoint.parse(one, Side.SOURCE).is_same_place(Endpoint.parse(other, Side.SOURCE)) is same
