"""The least that a task's users must be allowed, as the line that gives it. Tested to be enough, on real servers."""

from __future__ import annotations

from sync_tasks.errors import Side

USER = "keyferry"
PASSWORD = "PASSWORD"  # noqa: S105 - to be replaced by whoever gives the line
SOURCE = ("+@read", "+@connection", "+@transaction", "+select", "+psync", "+replconf", "+info", "+time")
TARGET = ("+@read", "+@write", "+@connection", "+@transaction", "+select", "+@scripting", "+info", "+time")
LATER = "+function|list"
"""Of a source from 7.0 on."""


SCANNING = ("+info", "+time", "+select", "+scan", "+randomkey", "+dump", "+pttl", "+pexpiretime", "+multi", "+exec",
            "+discard", "+ping", "+client|setname", "+function|list")  # fmt: skip
"""What the reader `scan` needs of a source."""
LISTENING = ("+psubscribe", "+exists", "+memory|usage", "+config|get", "resetchannels", "&__keyevent@*__:*",
             "&__keyspace@*__:*")  # fmt: skip
"""What it needs besides, to follow it by its notifications. Without CONFIG GET nobody can see whether there are any."""
CHANNELS = (6, 2)
"""The first version that grants channels; before it, every user may publish on all of them."""
CONTINUING = ("+publish", "resetchannels", "&keyferry:*")
"""What it needs to follow it by its stream, besides what any task does (SOURCE). Channels last: see `CHANNELS`."""
OF_CLUSTER = ("+asking", "+cluster|nodes", "+cluster|slots", "+cluster|countkeysinslot", "+cluster|getkeysinslot")
"""What it needs besides, of a cluster, on each node."""
CLUSTER = {Side.SOURCE: ("+cluster", "+eval"), Side.TARGET: ("+cluster",)}
"""Of a cluster, besides: who serves what; and keys of several slots are read at one moment by a script alone."""


def line(
    side: Side, version: tuple[int, int] = (7, 0), password: str = PASSWORD, *, cluster: bool = False,
    continued: bool = False,
) -> str:  # fmt: skip
    """The command that makes the user of one side.

    Args:
        version: of the server; before 7.0 keys cannot be granted for reading alone.
        cluster: for each node of a cluster.
        continued: of a source that is read by SCAN, and followed by its stream without a snapshot.
    """
    words = ["ACL", "SETUSER", USER, "reset", "on", f">{password}"]
    if side is Side.SOURCE:
        keys = ["%R~*", "%R~"] if version >= (7, 0) else ["~*"]  # a * does not stand for the empty name
        words += [*keys, *SOURCE, *([LATER] if version >= (7, 0) else [])]
        if continued:
            words += CONTINUING if version >= CHANNELS else CONTINUING[:1]
    else:
        words += ["~*", *TARGET]
    return " ".join([*words, *(CLUSTER[side] if cluster else ())])
