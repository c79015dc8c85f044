"""Who writes to a source now: what its counts of commands say, and which of its clients have said such a command last.

The counts are of clients alone: the DEL of a key whose time is over, or that is evicted, is in the stream, not there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from workers.codec.resp_cy import ReplyError
from workers.hold import fields
from workers.link import Link

OURS = "keyferry"
SAMPLES = 8
SAMPLE_EVERY_S = 0.04
MOST_NAMED = 5
REPLICAS = "SM"  # flags of CLIENT LIST: it is a replica, or the master


@dataclass(frozen=True, slots=True)
class Look:
    """What a server says at one moment."""

    replid: str
    offset: int
    run_id: str
    calls: dict[str, int]  # by command


@dataclass(frozen=True, slots=True)
class Writer:
    """A client that was seen with a command that writes."""

    address: str
    name: str
    user: str
    command: str
    sure: bool = True  # else it was busy meanwhile, but not seen with a command that writes

    def __str__(self) -> str:
        more = ", ".join(
            [f"name {self.name}"] * bool(self.name) + [f"user {self.user}"] * (self.user not in ("", "default"))
        )
        seen = "with" if self.sure else "perhaps, seen with"
        return f"{self.address}{f' ({more})' if more else ''} {seen} {self.command.upper()}"


class Writers:
    """Looks at one server.

    Args:
        link: to it.
    Raises what the link raises.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._writes: dict[str, bool] = {}  # by command

    def look(self) -> Look:
        """Its stream and its counts, at one moment."""
        *_, found = self._link.ask_all(
            [[b"MULTI"], [b"INFO", b"replication"], [b"INFO", b"server"], [b"INFO", b"commandstats"], [b"EXEC"]]
        )
        stream, server, stats = map(fields, found)
        calls = {
            name.removeprefix("cmdstat_"): int(value.partition("calls=")[2].partition(",")[0] or 0)
            for name, value in stats.items()
            if name.startswith("cmdstat_")
        }
        replid = stream.get("master_replid") or server.get("run_id", "")
        return Look(replid, int(stream.get("master_repl_offset", 0)), server.get("run_id", ""), calls)

    def between(self, before: Look, after: Look) -> dict[str, int]:
        """Commands of clients that write, and how often each was executed in between."""
        anew = any(after.calls.get(name, 0) < count for name, count in before.calls.items())  # CONFIG RESETSTAT
        was = {} if anew else before.calls
        grown = {name: more for name, count in after.calls.items() if (more := count - was.get(name, 0)) > 0}
        return {name: count for name, count in grown.items() if self._is_write(name)}

    def _is_write(self, name: str) -> bool:
        if name not in self._writes:
            (said,) = self._link.try_all([[b"COMMAND", b"INFO", name.encode()]])
            known = not isinstance(said, ReplyError) and bool(said) and said[0] is not None
            flags = {str(flag).strip("b'+") for flag in said[0][2]} if known else set()
            self._writes[name] = "write" in flags if known else _may_write(name)
        return self._writes[name]

    def clients(self) -> list[Writer]:
        """Clients whose last command writes: of a few looks, each once, the busiest first.

        One that reads right behind each write may be seen with its reads alone: without any other, busy clients are
        named with what they were seen with.
        """
        seen: dict[str, tuple[int, Writer]] = {}  # by address
        for turn in range(SAMPLES):
            if turn:
                time.sleep(SAMPLE_EVERY_S)
            (said,) = self._link.try_all([[b"CLIENT", b"LIST"]])
            if isinstance(said, ReplyError):
                return []
            for line in said.decode(errors="replace").splitlines():
                one = dict(part.split("=", 1) for part in line.split() if "=" in part)
                if self._is_ours(one) or int(one.get("idle", 0)) > 1:
                    continue
                command = one.get("cmd", "")
                sure = self._is_write(command)
                writer = Writer(one.get("addr", "?"), one.get("name", ""), one.get("user", ""), command, sure)
                times, before = seen.get(writer.address, (0, writer))
                seen[writer.address] = (times + sure, writer if sure or not before.sure else before)
        found = [writer for _, writer in sorted(seen.values(), key=lambda one: -one[0])]
        return [writer for writer in found if writer.sure] or found

    @staticmethod
    def _is_ours(one: dict[str, str]) -> bool:
        return one.get("name", "").startswith(OURS) or any(flag in one.get("flags", "") for flag in REPLICAS)


def _may_write(name: str) -> bool:
    """Of a command that the server does not tell about."""
    return name not in {"info", "ping", "client", "config", "command", "multi", "exec", "select", "auth", "hello"}


def in_words(counts: dict[str, int], clients: list[Writer]) -> str:
    """Commands and clients, for people."""
    often = sorted(counts.items(), key=lambda item: -item[1])[:MOST_NAMED]
    what = ", ".join(f"{name.upper()} {count}" for name, count in often)
    who = ", ".join(map(str, clients[:MOST_NAMED]))
    left = f" and {len(clients) - MOST_NAMED} more" if len(clients) > MOST_NAMED else ""
    return f"{what}; by {who}{left}" if who else f"{what}; by a client that is gone"


def quiet(
    writers: Writers, seconds: float, sleep: Callable[[float], None], concerns: Callable[[int, int], bool]
) -> tuple[dict[str, int], list[Writer]]:
    """What clients have written while it was looked, and who; nothing: nobody has.

    Args:
        seconds: to look.
        sleep: waits; may raise.
        concerns: whether something in scope was written between two offsets.
    """
    before, by = writers.look(), time.monotonic() + seconds
    while (left := by - time.monotonic()) > 0:
        sleep(min(left, 0.1))
        now = writers.look()
        if now.offset == before.offset:
            continue
        found = writers.between(before, now)
        if found and concerns(before.offset, now.offset):
            return found, writers.clients()
        before = now
    return {}, []
