"""What goes wrong, and when it is over again."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sync_tasks.states import ChunkState
from tests.simulation.network import Line
from tests.simulation.oracle import Failure, checkpoint
from tests.simulation.owner import Loader, Owner
from tests.simulation.plan import FAULTS
from tests.simulation.server import Connection
from tests.simulation.world import Process

if TYPE_CHECKING:
    from tests.simulation.history import History


def _owner(segment: Path) -> tuple[int, str]:
    """Who wrote it, and where it begins: the newest one comes last."""
    return int(segment.stem.rsplit("-", 1)[1]), segment.name


BORDER = re.compile(rb"\*1\r\n\$5\r\nMULTI|\*[34]\r\n\$5\r\nWATCH")
"""Where a transaction begins, and its gate."""


class Faults:
    """Args:
    history: whose.
    """

    def __init__(self, history: History) -> None:
        self._history, self._world, self._random = history, history.world, history.random
        self.left = history.plan.faults
        self.density = self._random.choice((0.04, 0.08, 0.15))
        self._kinds = history.plan.kinds
        self._kept = history.plan.faults // 2 if history.plan.loads else 0  # for when chunks are loaded
        self._breaks = 2 if "broken snapshot" in self._kinds else 0
        self._treasons = 3 if "takeover" in self._kinds else 0
        self._weights = [FAULTS[kind] for kind in self._kinds]
        self._away = False
        self._fell_too_far = False
        self._long: set[Process] = set()  # asleep until the end
        history.places[1].away = lambda: self._away
        history.control.asked, history.control.loaded = self._betray, self._chunk_is_done

    def strike(self) -> None:
        """One fault, or the end of one."""
        if self._random.random() < 0.5 and self.wake():
            return
        if not self.left:
            self.mend()
            return
        control = self._history.control
        if self.left <= self._kept and not control.rows and not control.node.begun:
            return
        self.left -= 1
        kind = self._random.choices(self._kinds, self._weights)[0]
        if kind in ("broken snapshot", "flicker"):  # they come when there is an occasion
            self.left += self._random.random() < 0.9
            return
        if getattr(self, "_" + kind.replace(" ", "_"))():
            self._history.outcome.faults[kind] += 1
            self._world.say("FAULT:", kind)

    # --- processes

    def _alive(self) -> list[Process]:
        return [p for p in self._history.processes if not p.over]

    def _any(self) -> Process | None:
        alive = self._alive()
        return self._random.choice(alive) if alive else None

    def _death(self) -> bool:
        process = self._any()
        if process is None:
            return False
        self._world.say("dies:", process.name)
        process.die()
        self._take_from(process)
        return True

    def _takeover(self) -> bool:
        """Its work is given to another, and it does not know; perhaps it is asleep."""
        process = self._any()
        if process is None:
            return False
        self._put_to_sleep(process, 0.6)
        self._world.say("is taken over:", process.name)
        self._take_from(process)
        return True

    def _betray(self, process: Process) -> None:
        """Its work is given to another just when it was told that it has a right to it, and it falls asleep."""
        if self._treasons and not self._history.quiet and self._random.random() < 0.08:
            self._treasons -= 1
            self._history.outcome.faults["takeover"] += 1
            self._put_to_sleep(process, 1.0)
            self._world.say("is taken over, asleep, and believes it is not:", process.name)
            self._take_from(process)

    def _put_to_sleep(self, process: Process, chance: float) -> None:
        if self._random.random() < chance:
            process.paused = True
            if self._random.random() < 0.3:
                self._long.add(process)

    def _take_from(self, process: Process) -> None:
        control = self._history.control
        if isinstance(process, Owner) and process.port.holds():
            control.give_away()
        if isinstance(process, Loader):
            chunk = process.port.chunk
            now = control.rows[chunk.id - 1]
            if now.state == ChunkState.RUNNING and now.epoch == chunk.epoch:
                control.put(now, state=ChunkState.READY)

    def _sleep(self) -> bool:
        process = self._any()
        if process is None:
            return False
        self._put_to_sleep(process, 1.0)
        return True

    def wake(self) -> bool:
        """Whatever is asleep, away or full: one of these ends."""
        asleep = [p for p in self._alive() if p.paused and p not in self._long]
        if asleep:
            self._random.choice(asleep).paused = False
            return True
        target = self._history.target
        ill = self._away or target.no_memory or target.no_replicas
        self._away = target.no_memory = target.no_replicas = False
        return ill

    def mend(self) -> bool:
        """All of it ends; whether there was any."""
        self._long.clear()
        ill = False
        while self.wake():
            ill = True
        return ill

    # --- the network

    def _cut(self) -> bool:
        lines = [line for line in self._world.lines if not line.late]
        if not lines:
            return False
        line = self._random.choice(lines)
        line.lose(under_way=self._random.random() < 0.4)
        self._world.say("is cut:", line.name)
        return True

    def _loss_of_late_bytes(self) -> bool:
        late = [line for line in self._world.lines if line.late and line.up]
        if not late:
            return False
        line = self._random.choice(late)
        del line.up[self._random.randrange(len(line.up)) :]
        line.bury()
        return True

    # --- the target

    def _to_target(self) -> list[Line]:
        return [line for line in self._world.lines if isinstance(line.peer, Connection)]

    def _failover(self) -> bool:
        """To a replica that lags; or back and forth, and connections to the first one outlive it."""
        data = self._history.target.data
        most = len(data.units)
        if not most or self._history.control.released:
            return False
        units = self._random.randint(0, most if self._random.random() < 0.05 else min(most, 10))
        streamed = self._streams()
        data.roll_back(units)
        self._history.oracle.fell_back(len(data.units))
        self._fell_too_far |= streamed and not self._streams()
        if self._random.random() < 0.7:
            for line in self._to_target():
                line.lose(under_way=True)
        self._world.say("falls back by", units)
        return True

    def _chunk_is_done(self) -> None:
        """The target may lose what it has just said that it has."""
        if "failover" in self._kinds and self.left and not self._history.quiet and self._random.random() < 0.1:
            self.left -= 1
            self._history.outcome.faults["failover"] += self._failover()

    def _flush(self) -> bool:
        """Somebody empties it."""
        if self._history.control.released or self._history.control.finishing:
            return False
        self._history.target.connect().execute([b"FLUSHALL"])
        return True

    def _streams(self) -> bool:
        """Whether the target knows where the stream stands."""
        return checkpoint(self._history.target).get(b"state") == b"streaming"

    def _out_of_memory(self) -> bool:
        self._history.target.no_memory = True
        return True

    def flicker(self, line: Line) -> bool:
        """Whether the target is out of memory for just as long as a part of some window takes."""
        if "flicker" not in self._kinds or not self.left:
            return False
        borders = [found.start() for found in BORDER.finditer(line.up)]
        if self._random.random() > (0.5 if len(borders) > 3 else 0.05 if borders else 0):
            return False
        self.left -= 1
        self._history.outcome.faults["flicker"] += 1
        self._history.target.no_memory = True
        line.deliver(self._random.choice(borders[1:] or borders) or len(line.up))
        self._history.target.no_memory = False
        self._world.say("FAULT: no memory for a moment:", line.name)
        return True

    def _no_replicas(self) -> bool:
        self._history.target.no_replicas = True
        return True

    def _target_away(self) -> bool:
        self._away = True
        for line in self._to_target():
            line.lose(under_way=self._random.random() < 0.5)
        return True

    # --- the source

    def _promotion(self) -> bool:
        """The source goes on under another replication id."""
        self._history.source.promote()
        for line in self._world.lines[:]:
            if not isinstance(line.peer, Connection):
                line.lose(under_way=True)
        return True

    def _backlog(self) -> bool:
        """The source does not have the stream any more that anybody lacks, and the link is cut."""
        for line in self._world.lines[:]:
            if not isinstance(line.peer, Connection):
                line.lose(under_way=self._random.random() < 0.5)
        self._history.source.forget()
        return True

    def _restart(self) -> bool:
        """The source restarts and begins another stream."""
        for line in self._world.lines[:]:
            if not isinstance(line.peer, Connection):
                line.lose(under_way=True)
        self._history.source.restart()
        return True

    def break_off(self, line: Line) -> bool:
        """Whether the snapshot that comes over this line is never all there; the link is cut somewhat later."""
        if line.ends_at:
            if self._world.steps > line.ends_at or self._history.quiet:
                line.lose(under_way=True)
            return True
        if not self._breaks or self._random.random() < 0.3:
            return False
        second = line.down.find(b"\xfe\x01")  # the chunks of the database before are complete
        if second < 0 or second + 3 > len(line.down) or not line.peer.snapshots:
            return False
        self._breaks -= 1
        self._history.outcome.faults["broken snapshot"] += 1
        line.answer(self._random.randint(second + 2, len(line.down) - 1))
        line.ends_at = self._world.steps + self._random.randint(5, 150)
        self._world.say("FAULT: broken snapshot", line.name)
        return True

    # --- the spool

    def _torn_log(self) -> bool:
        """A power cut: whoever wrote there is dead, and the newest file ends earlier, or is spoiled somewhere."""
        history = self._history
        for process in self._alive():
            if isinstance(process, Owner):
                process.die()
                self._take_from(process)
        files = sorted((history.directory / str(history.control.spool) / "log").glob("*.seg"), key=_owner)
        files = [f for f in files if f.stat().st_size]
        if not files:
            return False
        file = files[-1]
        size = file.stat().st_size
        at = self._random.randrange(size)
        if self._random.random() < 0.6:
            os.truncate(file, at)
        else:
            with file.open("r+b") as data:
                data.seek(at)
                data.write(b"\xff")
        self._world.say("spoils", file.name, at, "of", size)
        return True

    def _another_spool(self) -> bool:
        """The next owner has a spool of its own."""
        if not self._history.control.node.begun:
            return False
        self._next_spool = self._history.control.spool + 1
        return True

    _next_spool: int | None = None

    def spool(self) -> int:
        found, self._next_spool = self._next_spool, None
        return self._history.control.spool if found is None else found

    # --- the end

    def holes(self) -> int:
        """Windows that were executed though their gate was refused: the one hole that is known. Every claim looks."""
        return self._history.target.holes

    def _lost_spool(self) -> bool:
        """Whether the list of the keys that were brought may be lost, or is being made anew.

        What a taken-over owner has received last, and brought to the target before its successor claimed that, may
        have gone from the backlog before the successor asks for it.
        """
        faults = self._history.outcome.faults
        late = faults["backlog"] and faults["takeover"]
        return bool(late) or any(faults[kind] for kind in ("torn log", "another spool"))

    def excuse(self, message: str) -> str:
        """What a task that has stopped says, if it may. Raises Failure."""
        if ("cannot be read any more" in message or "is not in this spool" in message) and self._lost_spool():
            return "stopped: a full sync in place, and what it needs was lost with the spool"
        if "load that the database does not know" in message and self._fell_too_far:
            return "stopped: the target fell back to before the load"
        raise Failure(f"it stopped without need: {message}")
