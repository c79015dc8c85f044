"""A replica to read from instead of its master: one of those that the Sentinels or the master know, if it is fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError
from sync_tasks.finding import ASK_S, ask_sentinel, find, named, sentinels
from sync_tasks.topology import Address

LATE_BYTES = 16 << 20
"""A replica that is so far behind its master is passed over."""
Info = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a stream is to be read. why: it is the master, since no replica is fit."""

    endpoint: Endpoint
    replica: bool
    why: str = ""


def choose(endpoint: Endpoint, least: int = 0, avoid: Collection[str] = ()) -> Reading:
    """A replica of what an endpoint means, or the master itself. A server that is a replica is taken as it is.

    Only one counts that has the master's own stream, whole: it names the same replication id, is linked to it, has
    come to `least`, and has what follows. Another would take us for a stranger and send a snapshot.

    Args:
        least: offset up to which the stream is there already.
        avoid: addresses that are not to be taken.

    Raises:
        KeyferryError: the master cannot be asked.
    """
    master = find(endpoint)
    said = _info(master)
    if said.get("role") == "slave":
        return Reading(master, True)
    if not said.get("master_replid"):
        return Reading(master, False, "before Redis 4.0 a replica counts its stream by itself")
    found = dict.fromkeys(_of_sentinels(endpoint) if endpoint.is_sentinel else _of_master(said))
    unfit: list[str] = []
    fit: list[tuple[int, Endpoint]] = []
    for place in found:
        one = master.at(*place)
        try:
            offset = _offset(_info(one), said, least) if one.address() not in avoid else "it was late a moment ago"
        except KeyferryError as error:
            offset = error.message
        if isinstance(offset, int):
            fit.append((offset, one))
        else:
            unfit.append(offset if one.address() in offset else f"{one.address()}: {offset}")
    if fit:
        return Reading(max(fit, key=lambda pair: pair[0])[1], True)
    return Reading(master, False, "; ".join(unfit) or "it has no replica")


def _offset(said: Info, master: Info, least: int) -> int | str:
    """How far a replica has come, by its INFO and that of its master; why it is not fit."""
    if said.get("role") != "slave":
        return "it is a master"
    if said.get("master_link_status") != "up" or said.get("master_sync_in_progress"):
        return "it has lost its master, or is being loaded"
    if said.get("master_replid") != master.get("master_replid"):
        return "it has another stream"
    if not int(said.get("replica_announced", 1)):
        return "it is not announced"
    offset = int(said.get("slave_repl_offset", 0))
    if offset < least or int(master.get("master_repl_offset", 0)) - offset > LATE_BYTES:
        return "it is late"
    if least and not (int(said.get("repl_backlog_active", 0)) and _begins(said) <= least + 1):
        return "its backlog does not reach back to what is here"
    return offset


def _begins(said: Info) -> int:
    return int(said.get("repl_backlog_first_byte_offset", 0))


def _info(one: Endpoint) -> Info:
    try:
        with one.connect(db=0, socket_timeout=ASK_S, socket_connect_timeout=ASK_S) as client:
            said: Info = client.info("replication")
            return said
    except Exception as error:
        raise named(error, one) from error


def _of_master(said: Info) -> Iterator[Address]:
    """As it says itself. Port 0: a reader such as we are."""
    for name, value in said.items():
        if name[:5] == "slave" and name[5:].isdigit() and isinstance(value, dict):
            port = int(value.get("port", 0))
            if port and value.get("state") == "online":
                yield str(value.get("ip", "")), port


def _of_sentinels(endpoint: Endpoint) -> Iterable[Address]:
    """As the first of them says that knows the name. Raises KeyferryError: none does."""
    last: KeyferryError | None = None
    for one in sentinels(endpoint):
        try:
            return [*_listed(ask_sentinel(one, "SLAVES", endpoint.master))]  # REPLICAS is from 5.0 on, and means it
        except KeyferryError as error:
            last = error
    assert last is not None
    raise last


def _listed(answer: Iterable[Any]) -> Iterator[Address]:
    for one in answer:
        words = [*one.items()] if isinstance(one, dict) else [*zip(one[::2], one[1::2], strict=True)]
        said = {_text(name): _text(value) for name, value in words}
        down = {"s_down", "o_down", "disconnected"} & set(said.get("flags", "").split(","))
        if not down and said.get("port", "0") != "0":
            yield said["ip"], int(said["port"])


def _text(given: Any) -> str:
    return given.decode() if isinstance(given, bytes) else str(given)
