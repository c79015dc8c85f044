"""Which server of several an endpoint means at this moment: asked of those that it names, one after the other."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, CredentialsRefused, KeyferryError, Side
from sync_tasks.topology import Address, same, shards

ASK_S = 3.0
"""Seconds that one of several may take to answer."""
CREDENTIALS = "the Sentinels' own password is given by ?sentinel_password_file=FILE, and sentinel_username"
_answered: dict[str, Address] = {}
"""Group of Sentinels to the one that was of use last: one that is gone costs its timeout once."""


def find(endpoint: Endpoint) -> Endpoint:
    """The one server that a connection is to go to; of one server itself.

    Raises:
        KeyferryError: none of those that are named answers, or they do not know.
    """
    if endpoint.is_sentinel:
        return _master(endpoint)
    if not endpoint.nodes:
        return endpoint
    if endpoint.shard:
        return _of_shard(endpoint)
    if endpoint.slot is None:
        return endpoint.at(*_answering(endpoint))
    for shard in shards(endpoint):
        if shard.serves(endpoint.slot):
            return endpoint.at(*shard.master)
    raise _down(endpoint.side, f"no node of the cluster {endpoint.address()} serves slot {endpoint.slot}")


def _of_shard(endpoint: Endpoint) -> Endpoint:
    """One that has given all its slots away may have something to say of them still."""
    found = same(endpoint.shard, endpoint.slots, shards(endpoint, every=True))
    if found is None:
        raise _down(endpoint.side, f"no node of the cluster {endpoint.address()} has what the shard had")
    return endpoint.at(*found.master)


def _answering(endpoint: Endpoint) -> Address:
    last: KeyferryError | None = None
    for host, port in endpoint.nodes:
        try:
            with endpoint.at(host, port).connect(socket_timeout=ASK_S, socket_connect_timeout=ASK_S) as client:
                client.ping()
            return host, port
        except Exception as error:  # noqa: BLE001 - classified, and raised if no other answers
            last = named(error, endpoint.at(host, port))
    assert last is not None
    raise last


def _master(endpoint: Endpoint) -> Endpoint:
    """Where Sentinels say that the master is, if that says so, too."""
    last: KeyferryError | None = None
    for one in sentinels(endpoint):
        try:
            found = _asked(one, endpoint.master)
        except KeyferryError as error:
            last = error
            continue
        if found is None:
            last = _down(endpoint.side, f"the Sentinel {one.address()} knows no master {endpoint.master}")
            continue
        try:
            server = _checked(endpoint.at(*found), one)
        except KeyferryError as error:
            last = error
            continue
        _answered[endpoint.identity()] = (one.host, one.port)
        return server
    assert last is not None
    raise last


def _checked(server: Endpoint, sentinel: Endpoint) -> Endpoint:
    """A server that says that it is a master; a Sentinel may not have heard of a failover yet."""
    try:
        with server.connect(db=0, socket_timeout=ASK_S, socket_connect_timeout=ASK_S) as client:
            role = client.info("replication").get("role")
    except Exception as error:
        raise named(error, server) from error
    if role != "master":
        raise _down(
            server.side, f"{server.address()}, which the Sentinel {sentinel.address()} calls the master, is a replica"
        )
    return server


def _asked(one: Endpoint, master: str) -> Address | None:
    answer = ask_sentinel(one, "GET-MASTER-ADDR-BY-NAME", master)
    return (_text(answer[0]), int(answer[1])) if answer else None


def ask_sentinel(one: Endpoint, *words: str) -> Any:
    """What a Sentinel, as `sentinels` gives them, answers to SENTINEL ... . Raises KeyferryError, with its address."""
    try:
        with one.connect(socket_timeout=ASK_S, socket_connect_timeout=ASK_S) as client:
            return client.execute_command("SENTINEL", *words)
    except Exception as error:
        found = named(error, one, "the Sentinel ")
        if isinstance(found, CredentialsRefused):
            found.hint = CREDENTIALS
        raise found from error


def sentinels(endpoint: Endpoint) -> list[Endpoint]:
    """Those that an endpoint names, each with its own user and password, or none; first the one of use last."""
    first = _answered.get(endpoint.identity())
    return [
        replace(
            endpoint.at(host, port), db=None, username=endpoint.sentinel_username, password=None,
            password_file=endpoint.sentinel_password_file,
        )
        for host, port in sorted(endpoint.nodes, key=lambda node: node != first)
    ]  # fmt: skip


def named(error: BaseException, server: Endpoint, what: str = "") -> KeyferryError:
    """The typed error of a failure, and whose it is: several servers are in play."""
    found, place = classify(error, server.side), server.address()
    if place in found.message:
        return found
    found = copy.copy(found)
    found.message = f"{what}{place}: {found.message}"
    found.args = (found.message,)
    return found


def _text(given: bytes | str) -> str:
    return given.decode() if isinstance(given, bytes) else given


def _down(side: Side, what: str) -> KeyferryError:
    return ConnectionLost(
        what,
        side=side,
        code="no-master",
        hint="Keyferry asks again by itself; see SENTINEL MASTERS, or CLUSTER INFO, there",
    )
