"""Questions about keys of a cluster, each to the node that has the key at that moment.

A key's commands are one transaction there, if they are several; keys of one slot share it. A slot may be on its way to
another node, or be there already: MOVED and ASK are followed, key by key. So "no such key" is said only by the node
that would have it.
Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/, "Redirection and resharding".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sync_tasks.answers import classify
from sync_tasks.endpoints import SOCKET_TIMEOUT_S, Endpoint
from sync_tasks.errors import ConnectionLost, KeyferryError, Side
from sync_tasks.slots import SLOTS
from sync_tasks.topology import Address, Shard, places, reached, read, shards
from workers.aside import Aside
from workers.codec.resp_cy import ReplyError
from workers.codec.slots_cy import slot
from workers.link import Link

Command = tuple[bytes | int, ...]
LAYOUT: tuple[Command, Command] = ((b"CLUSTER", b"NODES"), (b"CLUSTER", b"SLOTS"))
AWAY = re.compile(rb"-?(MOVED|ASK) (\d+) (.*):(\d+)\s*$")
LEAVING = re.compile(r"\[(\d+)->-(\w+)\]")
"""In a node's line about itself: a slot that is on its way from it, and the node that is to have it."""
BUSY = b"TRYAGAIN"
MOST_TURNS = 8
"""So often one question is sent on; behind that its slot has no rest."""


def moving() -> ConnectionLost:
    """Of slots that are in nobody's hands for a moment."""
    return ConnectionLost(
        "slots of the source's cluster are on their way to another node", side=Side.SOURCE, code="slots-move",
        hint="it goes on by itself once they are there",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class View:
    """A cluster as one of its nodes sees it; that alone knows which slots are on their way from or to it.

    name: the node's own. heirs: of slots that are on their way from it, the nodes that are to have them.
    """

    shards: tuple[Shard, ...]
    name: str
    heirs: Mapping[int, tuple[str, Address]]

    def rests(self, number: int) -> bool:
        """Whether the node serves a slot, which is not on its way."""
        mine = next((one for one in self.shards if one.node_id == self.name), None)
        return mine is not None and mine.serves(number) and number not in mine.moving


@dataclass(frozen=True, slots=True)
class _Turn:
    """Keys of one slot, by their numbers, and whom they are asked of; asking: a node that is yet to have the slot."""

    at: Address
    numbers: tuple[int, ...]
    asking: bool = False


class Routes:
    """Of one cluster, by connections of its own.

    Args:
        endpoint: the cluster, or some of its nodes.
        name: of the connections, which CLIENT LIST shows.

    asked: commands that its nodes have been sent so far.
    Every method raises ConnectionLost, CredentialsRefused or SourceError.
    """

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        self._endpoint, self._name = endpoint, name
        self._links: dict[tuple[Address, int], Link] = {}  # by node, and database
        self._owners: list[Address] = []  # by slot; []: not known
        self.asked = 0

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()
        self.forget()

    def forget(self) -> None:
        """Who has which slots is to be found out anew."""
        self._owners = []

    # --- who has what

    def shards(self) -> list[Shard]:
        """Which there are now."""
        found = shards(self._endpoint)
        owners = [("", 0)] * SLOTS
        for shard in found:
            for first, last in shard.slots:
                owners[first : last + 1] = [shard.master] * (last - first + 1)
        self._owners = owners
        return found

    def owner(self, number: int) -> Address:
        """Who has a slot, by what is known."""
        if not self._owners:
            self.shards()
        return self._owners[number]

    @staticmethod
    def view(said: Sequence[Any], at: Address) -> View:
        """Which shards there are by the words of a node: its answers to `LAYOUT`."""
        for answer in said:
            if isinstance(answer, ReplyError):
                raise classify(answer.line, Side.SOURCE)
        nodes, slots = said
        text = nodes.decode(errors="replace")
        mine = next(line for line in text.splitlines() if "myself" in line.split()[2].split(","))
        found = reached(read(text, at, Side.SOURCE), slots, at)
        known = places(text, at) | {shard.node_id: shard.master for shard in found}
        heirs = {int(one): (name, known[name]) for one, name in LEAVING.findall(mine) if name in known}
        return View(tuple(found), mine.split()[0], heirs)

    # --- questions

    def ask(self, at: Address, db: int, commands: Iterable[Command], aside: Aside | None = None) -> list[Any]:
        """What one node answers; errors among that as `ReplyError`s."""
        words: list[list[bytes | int]] = [list(command) for command in commands]
        self.asked += len(words)
        try:
            link = self._links.get((at, db))
            if link is None:
                link = Link(self._endpoint.at(*at), self._name, db, SOCKET_TIMEOUT_S)
                self._links[at, db] = link
            return link.try_all(words, aside)
        except KeyferryError:
            self.close()  # another may have its place by now
            raise

    def about(
        self, db: int, keys: Sequence[bytes], words: Callable[[int], Sequence[Command]], aside: Aside | None = None
    ) -> list[list[Any] | ReplyError]:
        """For each key what its commands have answered, all at one moment; or the error of one that was refused.

        Args:
            words: the commands about the key of that number; those that name a key name this one.
            aside: takes long values out of the replies.
        """
        found: list[list[Any] | ReplyError] = [[]] * len(keys)
        by_slot: dict[int, list[int]] = {}
        for number, key in enumerate(keys):
            by_slot.setdefault(slot(key), []).append(number)
        turns = [_Turn(self.owner(one), tuple(numbers)) for one, numbers in by_slot.items()]
        for _ in range(MOST_TURNS):
            left: list[_Turn] = []
            for at in dict.fromkeys(turn.at for turn in turns):
                mine = [turn for turn in turns if turn.at == at]
                for turn, said in zip(mine, self._said(at, db, mine, words, aside), strict=True):
                    if isinstance(said, ReplyError):
                        left += self._again(turn, said, found)
                    else:
                        self._share(turn, said, words, found)
            if not left:
                return found
            turns = left
        raise moving()

    def _said(
        self, at: Address, db: int, turns: Sequence[_Turn], words: Callable[[int], Sequence[Command]],
        aside: Aside | None,
    ) -> list[list[Any] | ReplyError]:  # fmt: skip
        """Of each turn."""
        commands: list[Command] = []
        counts: list[tuple[int, bool, int]] = []
        for turn in turns:
            asked = [words(number) for number in turn.numbers]
            one = [command for some in asked for command in some]
            single = len(one) == len(asked)  # then each may be answered at a moment of its own
            head: list[Command] = [(b"ASKING",)] if turn.asking else []
            whole = [*head, *one] if single else [*head, (b"MULTI",), *one, (b"EXEC",)]
            commands += whole
            counts.append((len(whole), single, len(head)))
        answers, found, pos = self.ask(at, db, commands, aside), list[list[Any] | ReplyError](), 0
        for count, single, ahead in counts:
            said = answers[pos : pos + count]
            pos += count
            refused = next((one for one in said if isinstance(one, ReplyError)), None)
            found.append(refused if refused is not None else said[ahead:] if single else said[-1])
        return found

    @staticmethod
    def _share(
        turn: _Turn, said: Sequence[Any], words: Callable[[int], Sequence[Command]],
        found: list[list[Any] | ReplyError],
    ) -> None:  # fmt: skip
        pos = 0
        for number in turn.numbers:
            count = len(words(number))
            found[number] = list(said[pos : pos + count])
            pos += count

    def _again(self, turn: _Turn, said: ReplyError, found: list[list[Any] | ReplyError]) -> list[_Turn]:
        """Of a turn that was refused, what is to be asked once more."""
        away = AWAY.match(said.line)
        if away is not None and away[1] == b"MOVED":
            there = away[3].decode(), int(away[4])
            if there[0] in ("", "?"):
                there = turn.at[0], there[1]
            if self._owners:
                self._owners[int(away[2])] = there
            return [_Turn(there, turn.numbers)]
        if len(turn.numbers) > 1:  # some of them are elsewhere
            return [_Turn(turn.at, (number,), turn.asking) for number in turn.numbers]
        if away is not None:
            host = away[3].decode()
            return [_Turn((turn.at[0] if host in ("", "?") else host, int(away[4])), turn.numbers, asking=True)]
        if BUSY in said.line:
            return [turn]
        found[turn.numbers[0]] = said
        return []
