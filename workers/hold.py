"""Pausing the writes to a source: by CLIENT PAUSE, or where that is not to be had by a setting of the server.

    CLIENT PAUSE <ms> WRITE     from 6.2 on. Writes wait; reads, ours among them, go on. It ends by itself: we ask for a
                                few seconds, again and again, so that writes go on soon if we die.
    min-replicas-to-write       before, or where CLIENT PAUSE is not permitted: more replicas than there are, so that
                                every write is refused (NOREPLICAS). It stays until it is set back, which whoever goes
                                on with the operation does, by what was written down before it was set.
    CLIENT PAUSE <ms>           without WRITE, as before 6.2, would keep our own questions waiting, too, and nothing
                                could end it early: it is not used.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError, SourceError
from workers.codec.resp_cy import ReplyError
from workers.link import Link

PAUSE_S = 5.0
"""A pause that is not renewed is over after this."""
RENEW_S = 1.0
MANY = b"1000000"
LAG = b"10"
NAME = "keyferry-cut-over"
SETTINGS = ((b"min-replicas-to-write", b"min-replicas-max-lag"), (b"min-slaves-to-write", b"min-slaves-max-lag"))
"""From 5.0 on, and before. Both must be above 0 for either to matter."""
HOPS = 3


def writable(endpoint: Endpoint) -> Endpoint:
    """The server that takes the source's writes: itself, or of a replica its master, with the same credentials.

    Raises SourceError, and what the link raises.
    """
    for _ in range(HOPS):
        link = Link(endpoint, NAME, 0)
        try:
            info = fields(link.ask(b"INFO", b"replication"))
        finally:
            link.close()
        if info.get("role") != "slave":
            return endpoint
        endpoint = endpoint.at(info["master_host"], int(info["master_port"]))
    raise SourceError(
        "the source is a replica of a replica of a replica", hint="name its master as source", code="no-master"
    )


def fields(info: bytes) -> dict[str, str]:
    """INFO's text as a table."""
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


@dataclass(slots=True)
class Means:
    """How writes to one server can be paused.

    Args:
        pause: by CLIENT PAUSE.
        setting: else by this setting; None: not at all.
        before: what it and its lag are, before it is changed.
        why: it cannot be paused, in words.
    """

    pause: bool = False
    setting: str | None = None
    before: list[str] = field(default_factory=list)
    why: str = ""

    @property
    def words(self) -> str:
        """For people."""
        if self.pause:
            return "CLIENT PAUSE WRITE is permitted"
        if self.setting:
            return f"CLIENT PAUSE is not to be had ({self.why}); CONFIG SET {self.setting} is permitted"
        return f"writes cannot be paused: {self.why}"


def means(link: Link) -> Means:
    """Find out, by questions that are refused for their arguments alone: nothing is changed."""
    (said,) = link.try_all([[b"CLIENT", b"PAUSE", b"x", b"WRITE"]])
    text = said.line.decode(errors="replace").lstrip("-") if isinstance(said, ReplyError) else ""
    if "timeout" in text.lower():
        return Means(pause=True)
    found = Means(why=text)
    for count, lag in SETTINGS:
        set_it, now, lag_now = link.try_all(
            [[b"CONFIG", b"SET", count, b"x"], [b"CONFIG", b"GET", count], [b"CONFIG", b"GET", lag]]
        )
        refused = set_it.line.decode(errors="replace") if isinstance(set_it, ReplyError) else ""
        told = isinstance(now, list) and isinstance(lag_now, list) and len(now) == len(lag_now) == 2
        if told and "NOPERM" not in refused and "unknown" not in refused.lower():
            return Means(False, count.decode(), [now[1].decode(), lag_now[1].decode()], text)
        found = Means(why=f"{text}; {refused.lstrip('-') or 'CONFIG GET is not permitted'}")
        if "NOPERM" in refused:
            break
    return found


def lag_of(setting: str) -> bytes:
    """The setting that belongs to it."""
    return dict(SETTINGS)[setting.encode()]


class Hold:
    """Keeps writes to one server paused.

    Args:
        endpoint: as `writable` gives it.
        how: of the same server.
    """

    def __init__(self, endpoint: Endpoint, how: Means) -> None:
        self.endpoint, self.how = endpoint, how
        self._link = Link(endpoint, NAME, 0)
        self.run_id = fields(self._link.ask(b"INFO", b"server")).get("run_id", "")
        self._until = 0.0  # monotonic seconds at which the pause is over for sure not

    def begin(self, seconds: float) -> None:
        """Pause, or go on with it, for so many seconds. Raises what the link raises, SourceError if it is refused."""
        asked_at = time.monotonic()
        if self.how.pause:
            self._order([b"CLIENT", b"PAUSE", b"%d" % (seconds * 1000), b"WRITE"])
            self._until = asked_at + seconds
        elif self.how.setting is not None:
            if not self._until:
                self._order([b"CONFIG", b"SET", lag_of(self.how.setting), LAG])
                self._order([b"CONFIG", b"SET", self.how.setting.encode(), MANY])
            else:
                self._order([b"PING"])  # whoever has restarted has lost it
            self._until = float("inf")

    def _order(self, command: list[bytes | int]) -> None:
        (said,) = self._link.try_all([command])
        if isinstance(said, ReplyError):
            raise SourceError(
                f"the source refuses to pause writes: {said.line.decode(errors='replace').lstrip('-')}",
                code="pause-refused",
                hint="grant the user of the source URL +client|pause +client|unpause, or stop the writes yourself",
            )

    @property
    def holds(self) -> bool:
        """Whether writes have been paused all the while."""
        return time.monotonic() < self._until

    def end(self) -> None:
        """Undo it: writes go on, exactly as before."""
        if self.how.pause:
            self._order([b"CLIENT", b"UNPAUSE"])
        elif self.how.setting is not None:
            put_back(self._link, self.how.setting, self.how.before)
        self._until = 0.0

    def close(self) -> None:
        """Leave it as it is."""
        self._link.close()


def put_back(link: Link, setting: str, before: list[str]) -> None:
    """Undo what a hold by settings has changed."""
    count, lag = before
    link.ask(b"CONFIG", b"SET", setting.encode(), count.encode())
    link.ask(b"CONFIG", b"SET", lag_of(setting), lag.encode())


class Holds(threading.Thread):
    """Several holds, renewed from a thread of their own until they are to end, or the limit is over.

    Args:
        holds: not begun.
        limit_s: since `begin`.
    """

    def __init__(self, holds: list[Hold], limit_s: float) -> None:
        super().__init__(name="hold", daemon=True)
        self.holds, self.limit_s = holds, limit_s
        self._over, self._lock = threading.Event(), threading.Lock()
        self.began = 0.0
        self.error: KeyferryError | None = None

    def begin(self) -> None:
        """Pause. Raises what stands against it; what has been paused is undone by `undo`."""
        self.began = time.monotonic()
        for hold in self.holds:
            hold.begin(min(PAUSE_S, self.limit_s))
        self.start()

    def run(self) -> None:
        while not self._over.wait(RENEW_S):
            left = self.began + self.limit_s - time.monotonic()
            if left <= 0:
                self.error = SourceError(
                    f"writes to the source had been paused for {self.limit_s:.0f} s, the limit, and the target was not"
                    " closed yet",
                    code="pause-limit",
                    hint="give a higher --pause-limit, or a --verify that compares less",
                )
                return
            try:
                with self._lock:
                    for hold in self.holds:
                        hold.begin(min(PAUSE_S, max(left, 0.001)))
            except KeyferryError as error:
                self.error = error
                return

    def check(self) -> None:
        """Raise if writes are not paused any more."""
        if self.error is not None:
            raise self.error
        if not all(hold.holds for hold in self.holds):
            raise SourceError(
                "the pause of writes to the source was not renewed in time", code="pause-lost", hint="ask again"
            )

    def stop(self) -> None:
        """Renew no more."""
        self._over.set()
        if self.is_alive():
            self.join()

    def undo(self) -> bool:
        """End all. Whether that was done, or what is left ends by itself in a few seconds. Safe to repeat."""
        self.stop()
        done = True
        for hold in self.holds:
            try:
                hold.end()
            except KeyferryError:
                done = done and hold.how.setting is None
        self.close()
        return done

    def leave(self) -> None:
        """Leave them as they are."""
        self.stop()
        self.close()

    def last(self, seconds: float) -> None:
        """The target is closed: let writes wait for so long from now, and leave it at that."""
        self.stop()
        for hold in self.holds:
            with contextlib.suppress(KeyferryError):
                hold.begin(seconds)
        self.close()

    def close(self) -> None:
        for hold in self.holds:
            hold.close()


def as_state(hold: Hold) -> dict[str, Any]:
    """What has to be known to undo it without the process that has begun it."""
    return {"setting": hold.how.setting, "before": hold.how.before, "pause": hold.how.pause}


def undo_left(endpoint: Endpoint, left: dict[str, Any]) -> None:
    """Undo what a process that is no more has begun. Raises KeyferryError."""
    link = Link(replace(endpoint), NAME, 0)
    try:
        if left["pause"]:
            link.try_all([[b"CLIENT", b"UNPAUSE"]])
        elif left["setting"]:
            put_back(link, left["setting"], left["before"])
    finally:
        link.close()
