"""The protocol with one part of it left out: the model must notice each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from sync_tasks.names import over_key
from workers.codec.resp_cy import encode
from workers.target import claim as claims
from workers.target import windows
from workers.target.link import TargetLink
from workers.target.windows import Chain, Window

Patches = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mutation:
    """One part left out.

    Args:
        patches: what is put in place of what.
        focus: faults that bring it to light.
        first: a seed some way before one that does.
    """

    patches: Patches
    focus: str
    first: int = 0


real_push, real_init, real_ask_all = Chain.push, Chain.__init__, TargetLink.ask_all


def harmless(*names: bytes) -> Callable[[list[Any]], bytes]:
    """An encoder that makes questions of some commands."""

    def changed(argv: list[Any]) -> bytes:
        return encode([b"EXISTS", argv[1]]) if argv[0] in names else encode(argv)

    return changed


def _watch_without_token(self: Chain, *args: Any) -> None:
    real_init(self, *args)
    over = over_key(self.tok)
    self._watch = encode([b"WATCH", self.ck, over]) + encode([b"PEXPIREAT", over, windows.FAR])


def _checkpoint_ahead(self: Chain, window: Window) -> None:
    begin = len(self._out)
    real_push(self, window)
    at = self._out.rindex(b"*", begin, self._out.rindex(encode([b"EXEC"])))
    point = bytes(self._out[at : -len(encode([b"EXEC"]))])
    self._out[begin:] = point + self._out[begin:at] + encode([b"EXEC"])


def _claim_without(*left_out: bytes) -> Callable[..., Any]:
    """A claim that leaves something of the predecessor's."""

    def ask_all(self: TargetLink, commands: list[list[Any]]) -> list[Any]:
        if commands[0] == [b"MULTI"] and commands[1][0] == b"HMGET":
            commands = [c for c in commands if c[0] not in left_out]
        return real_ask_all(self, commands)

    return ask_all


def _claim_unwatched(self: TargetLink, commands: list[list[Any]]) -> list[Any]:
    return real_ask_all(self, [[b"EXISTS", c[1]] if c[0] == b"WATCH" else c for c in commands])


def _states_alone(values: list[Any], *_: object) -> None:
    if values[claims.FIELDS.index(b"state")] == claims.FINISHED.encode():
        raise claims.Finished(0)


MUTATIONS: dict[str, Mutation] = {
    "windows do not watch the token": Mutation(
        {"workers.target.windows.Chain.__init__": _watch_without_token}, "memory", 40
    ),
    "windows have no gate": Mutation({"workers.target.windows.encode": harmless(b"HSETNX")}, "memory", 40),
    "a claim leaves the predecessor's chain": Mutation(
        {"workers.target.link.TargetLink.ask_all": _claim_without(b"DEL", b"SET")}, "claims"
    ),
    "a claim does not look at epochs": Mutation({"workers.target.claim._check": _states_alone}, "claims", 250),
    "a claim is made whoever has claimed meanwhile": Mutation(
        {"workers.target.link.TargetLink.ask_all": _claim_unwatched}, "claims"
    ),
    "a window without memory for its gate is not spoiled": Mutation(
        {"workers.target.windows.encode": harmless(b"PEXPIREAT")}, "memory", 380
    ),
    "the checkpoint is written outside of the transaction": Mutation(
        {
            "workers.target.windows.Chain.push": _checkpoint_ahead,
            "workers.target.windows.GATE_COMMANDS": windows.GATE_COMMANDS + 1,
            "workers.target.windows.TAIL_COMMANDS": windows.TAIL_COMMANDS - 1,
        },
        "claims",
        10,
    ),
    "missing windows are not missed": Mutation({"workers.resync._lacks": lambda _: False}, "memory", 80),
    "batches have no gates": Mutation({"workers.full.encode": harmless(b"HSETNX", b"PEXPIREAT")}, "load"),
    "batches have no chain": Mutation({"workers.full.encode": harmless(b"HSETNX")}, "load", 410),
    "batches do not look whether the load is closed": Mutation(
        {"workers.full.encode": harmless(b"PEXPIREAT")}, "load", 90
    ),
    "marks are not read": Mutation({"workers.closing.Closing.missing": lambda *_: []}, "load", 20),
    "what a broken-off snapshot had loaded stays": Mutation(
        {"workers.closing.Closing.sweep": lambda *_: None}, "load", 60
    ),
    "a task that is fenced off keeps its loads open": Mutation(
        {"workers.fence.close_loads": lambda *_: None}, "release", 170
    ),
    "a task that is fenced off keeps its stream": Mutation(
        {"workers.fence.close_stream": lambda *_: None}, "release", 20
    ),
    "blocks of the log are not checked": Mutation({"workers.spool.log.crc32": lambda _: 0}, "disk", 30),
    "the target is not told of a full sync in place": Mutation(
        {"workers.apply.Applier.reopen": lambda *_: None}, "resync"
    ),
    "what the log had brought stays": Mutation({"workers.spool.known.Known.fold": lambda *_: None}, "resync", 110),
    "what was there before stays": Mutation({"workers.spool.known.Known.part": lambda *_: b""}, "resync", 110),
}
"""What is left out, and what is put in its place."""

EQUAL: dict[str, Mutation] = {
    "a claim leaves the predecessor's token": Mutation(
        {"workers.target.link.TargetLink.ask_all": _claim_without(b"DEL")}, "claims"
    ),
    "gates of earlier loads may be open": Mutation({"workers.closing.Closing._reopened": lambda *_: False}, "load"),
}
"""What the rest of the protocol makes up for, as far as these histories go."""


@contextmanager
def mutated(name: str) -> Iterator[Mutation]:
    """The protocol without that part."""
    mutation = {**MUTATIONS, **EQUAL}[name]
    with ExitStack() as stack:
        for place, new in mutation.patches.items():
            stack.enter_context(patch(place, new))
        yield mutation
