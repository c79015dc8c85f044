"""Which server of several an endpoint means at this moment: asked of those that it names, one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, KeyferryError, Side
from sync_tasks.topology import same, shards

ASK_S = 3.0
"""Seconds that one of several may take to answer."""


def find(endpoint: Endpoint) -> Endpoint:
    """The one server that a connection is to go to.

    Raises:
        KeyferryError: none of those that are named answers, or they do not know.
    """
    if endpoint.is_sentinel:
        return _master(endpoint)
    if endpoint.shard:
        return _of_shard(endpoint)
    if endpoint.slot is None:
        return endpoint.at(*_answering(endpoint))
    for shard in shards(endpoint):
        if shard.serves(endpoint.slot):
            return endpoint.at(*shard.master)
    raise _down(endpoint.side, f"no node of the cluster {endpoint.address()} serves slot {endpoint.slot}")


def _of_shard(endpoint: Endpoint) -> Endpoint:
    found = same(endpoint.shard, endpoint.slots, shards(endpoint))
    if found is None:
        raise _down(endpoint.side, f"no node of the cluster {endpoint.address()} has what the shard had")
    return endpoint.at(*found.master)


def _answering(endpoint: Endpoint) -> tuple[str, int]:
    last: KeyferryError | None = None
    for host, port in endpoint.nodes:
        try:
            with endpoint.at(host, port).connect(socket_timeout=ASK_S, socket_connect_timeout=ASK_S) as client:
                client.ping()
            return host, port
        except Exception as error:  # noqa: BLE001 - classified, and raised if no other answers
            last = classify(error, endpoint.side)
    assert last is not None
    raise last


def _master(endpoint: Endpoint) -> Endpoint:
    """Where Sentinels say that the master is, if that says so, too."""
    last: KeyferryError | None = None
    for host, port in endpoint.nodes:
        try:
            found = _asked(endpoint, host, port)
            if found is None:
                last = _down(endpoint.side, f"the Sentinel {host}:{port} knows no master {endpoint.master}")
                continue
            one = endpoint.at(*found)
            with one.connect(socket_timeout=ASK_S, socket_connect_timeout=ASK_S) as client:
                role = client.execute_command("ROLE")[0]
            if role == b"master":
                return one
            last = _down(endpoint.side, f"{one.address()}, which Sentinel {host}:{port} calls the master, is a replica")
        except Exception as error:  # noqa: BLE001 - classified, and raised if no other Sentinel does better
            last = classify(error, endpoint.side)
    assert last is not None
    raise last


def _asked(endpoint: Endpoint, host: str, port: int) -> tuple[str, int] | None:
    with sentinel(endpoint, host, port).connect(socket_timeout=ASK_S, socket_connect_timeout=ASK_S) as client:
        found: Any = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", endpoint.master)
    return (found[0].decode(), int(found[1])) if found else None


def sentinel(endpoint: Endpoint, host: str, port: int) -> Endpoint:
    """One of the Sentinels that an endpoint names: with its own user and password, or none."""
    return replace(
        endpoint.at(host, port), db=None, username=endpoint.sentinel_username, password=None,
        password_file=endpoint.sentinel_password_file,
    )  # fmt: skip


def _down(side: Side, what: str) -> KeyferryError:
    return ConnectionLost(
        what,
        side=side,
        code="no-master",
        hint="Keyferry asks again by itself; see SENTINEL MASTERS, or CLUSTER INFO, there",
    )
