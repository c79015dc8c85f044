"""The network: lines on which bytes are under way for as long as the world likes, also behind who has sent them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tests.simulation.world import FOREVER, Party, Process, World
from workers.target.link import SILENCE_S, lost

if TYPE_CHECKING:
    from tests.simulation.owner import Place


class Peer(Protocol):
    """The server's side of a connection."""

    def feed(self, data: bytes) -> bytes: ...

    def close(self) -> None: ...


class Line:
    """One connection. `up`, `down`: bytes under way; `arrived`: bytes that the client can read.

    `cut`: the client's side is broken; `closed`: the client is through with it. What is under way to the server may
    arrive all the same.
    """

    def __init__(self, process: Process, peer: Any, name: str) -> None:
        self.process, self.peer, self.name = process, peer, name
        self.world = world = process.world
        self.follows = hasattr(peer, "more")  # it sends a stream unasked
        self.up, self.down, self.arrived = bytearray(), bytearray(), bytearray()
        self.cut = self.closed = False
        self.reader: Party | None = None  # waits for what arrives
        self.slow = world.random.random() < 0.3
        self.late_chance = world.random.choice((0.1, 0.02, 0.0))  # of bytes that nobody waits for any more
        self.ends_at = 0  # the step behind which it is cut
        world.lines.append(self)

    def heard(self) -> bool:
        return bool(self.arrived) or self.cut

    @property
    def late(self) -> bool:
        """Nobody waits for an answer any more."""
        return self.cut or self.closed

    def deliver(self, size: int) -> None:
        """So many bytes reach the server."""
        data = bytes(self.up[:size])
        del self.up[:size]
        replies = self.peer.feed(data)
        if not self.late:
            self.down += replies
        self.bury()

    def answer(self, size: int) -> None:
        """So many bytes reach the client."""
        self.arrived += self.down[:size]
        del self.down[:size]

    def lose(self, under_way: bool) -> None:
        """The client's side breaks; with `under_way`, what it had sent gets lost, too."""
        self.cut = True
        self.down.clear()
        if under_way:
            self.up.clear()
        self.bury()

    def close(self) -> None:
        self.closed = True
        self.bury()

    def bury(self) -> None:
        """Nothing can come any more."""
        if self.late and not self.up and self in self.world.lines:
            self.world.lines.remove(self)
            self.peer.close()


def _dial(place: Place) -> Line:
    world = place.world
    party = world.party
    assert party is not None
    world.wait(lambda: True)  # it takes a while
    if place.away():
        raise lost("connection refused")
    line = Line(party.process, place.connect(), f"{party.name}>{place.name}{world.token(1)}")
    party.process.lines.append(line)
    return line


class ModelWire:
    """In place of `workers.wire.Wire`."""

    def __init__(self, endpoint: Any, silence_s: float = SILENCE_S) -> None:
        self._line = _dial(endpoint)
        self.at = endpoint.address()
        self._world: World = endpoint.world

    def send(self, data: bytes | bytearray) -> None:
        self._alive()
        self._line.process.spoken = self._line
        self._line.up += data

    def write(self, data: bytearray) -> int:
        self._alive()
        random = self._world.random
        size = len(data) if random.random() < 0.8 else random.randint(1, len(data))
        self._line.up += data[:size]
        self._line.process.spoken = self._line
        return size

    def _alive(self) -> None:
        if self._line.cut:
            raise lost("the connection was cut")

    def receive(self) -> bytes:
        line = self._line
        if not line.arrived:
            line.reader = self._world.party
            self._world.wait(line.heard, SILENCE_S)
            if not line.arrived:
                raise lost("the connection was cut" if line.cut else "silent")
        data = bytes(line.arrived)
        line.arrived.clear()
        return data

    def ready(self, timeout_s: float, *, write: bool = False, least: int = 1) -> tuple[bool, bool]:
        line = self._line
        if not line.heard() and (not write or self._world.random.random() < 0.5):
            line.reader = self._world.party
            self._world.wait((lambda: True) if write else line.heard, timeout_s)
        return line.heard(), write and not line.cut

    def close(self) -> None:
        self._line.close()


class ModelSocket:
    """As much of a socket as the replication link uses."""

    def __init__(self, place: Place) -> None:
        try:
            self._line = _dial(place)
        except Exception as error:
            raise ConnectionRefusedError from error
        self._world = place.world
        self._timeout = FOREVER

    def settimeout(self, seconds: float) -> None:
        self._timeout = seconds

    def setsockopt(self, *_: int) -> None: ...

    def sendall(self, data: bytes) -> None:
        if self._line.cut:
            raise ConnectionResetError
        self._line.up += data
        self._line.process.spoken = self._line

    def recv(self, size: int) -> bytes:
        line = self._line
        if not line.arrived:
            line.reader = self._world.party
            self._world.wait(line.heard, self._timeout)
            if line.cut:
                raise ConnectionResetError
            if not line.arrived:
                raise TimeoutError
        data = bytes(line.arrived[:size])
        del line.arrived[:size]
        return data

    def close(self) -> None:
        self._line.close()


__all__ = ["Line", "ModelSocket", "ModelWire", "Peer", "Process"]
