"""A source's keyspace notifications: subscribed to on a connection of their own, and drained at once, by a thread.

A subscription that ends has lost what comes next, and nobody says how much; so its end is an error. Channels and
settings: https://redis.io/docs/latest/develop/use/keyspace-notifications/
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, KeyferryError, Retry, Side, SourceError
from sync_tasks.names import KEY_PREFIX
from sync_tasks.notifications import CHANNELS, ENOUGH, enough
from workers.codec.resp_cy import ReplyError, encode, parse
from workers.link import Link
from workers.told import Told

EVENTS, SPACES = b"__keyevent@*__:*", b"__keyspace@*__:*"
"""Channels that name the event, with the key as message, and that name the key."""
MISSED = b"keymiss"
"""Somebody has asked for a key that is not there (class `m`, not in `A`): nothing has changed, and the target may have
a key of that name which is its own."""
OPENED_S = 15.0
PING_EVERY_S = 5.0
SILENCE_S = 30.0
TURN_S = 0.02
MOST_CHANNELS = 10_000


class Notices(threading.Thread):
    """One subscription, which tells the keys that it hears of.

    Args:
        endpoint: the source.
        told: told of each key.
        takes: whether a key of a database concerns anybody.
    """

    def __init__(self, endpoint: Endpoint, told: Told, takes: Callable[[int, bytes], bool]) -> None:
        super().__init__(name="notices", daemon=True)
        self._told, self._takes = told, takes
        self._link = Link(endpoint, "keyferry-notices", 0)
        self._asking = Link(endpoint, "keyferry-notices-setting", 0)
        self._in = b""
        self._ending = threading.Event()
        self._ponged = threading.Condition()
        self._wanted = self._sent = self._heard = 0  # PINGs
        self._quiet_since = time.monotonic()
        self._databases: dict[bytes, int] = {}  # of channels that name events
        self._letters = ""  # of the kinds of channels that are subscribed to, one of which would do
        self.error: KeyferryError | None = None

    # --- whoever uses it

    def begin(self) -> None:
        """Return once the source tells of every key. Raises ConnectionLost, CredentialsRefused, SourceError."""
        flags = self.setting()
        # Either kind of channel names every key: what is told twice costs the source twice as much.
        self._letters = CHANNELS if flags is None else "E" if "E" in flags else "K"
        patterns = [pattern for letter, pattern in (("E", EVENTS), ("K", SPACES)) if letter in self._letters]
        self._link.send(encode([b"PSUBSCRIBE", *patterns]))
        left, by = len(patterns), time.monotonic() + OPENED_S
        while left:
            value, end = parse(self._in, 0)
            if end < 0:
                if time.monotonic() > by:
                    raise ConnectionLost("the source does not answer PSUBSCRIBE", side=Side.SOURCE)
                self._in += self._link.receive()
                continue
            self._in = self._in[end:]
            if isinstance(value, ReplyError):
                raise classify(value.line, Side.SOURCE)
            left -= value[0] == b"psubscribe"
        self._told.heard = self.heard
        self.start()

    def setting(self) -> str | None:
        """What the source tells, as its configuration says; None: it does not let us ask. Raises SourceError if that
        is not every key, or not where we listen, and what the connection raises."""
        (answer,) = self._asking.try_all([[b"CONFIG", b"GET", b"notify-keyspace-events"]])
        if isinstance(answer, ReplyError) or len(answer) < 2:
            return None
        flags = str(answer[1].decode(errors="replace"))
        if not enough(flags):
            raise SourceError(
                f'the source {self._asking.at} does not tell of every key: notify-keyspace-events is "{flags}"',
                code="notifications-off",
                hint=f"CONFIG SET notify-keyspace-events {ENOUGH} there, then it goes on by itself",
                retry=Retry.OTHER,
            )
        if self._letters and not any(one in flags for one in self._letters):
            raise SourceError(
                f'the source {self._asking.at} tells of its keys elsewhere: notify-keyspace-events is "{flags}"',
                code="notifications-elsewhere",
                hint="it subscribes to those, and compares all keys, by itself",
                retry=Retry.OTHER,
            )
        return flags

    def check(self) -> None:
        """Raise what has ended it."""
        if self.error is not None:
            raise self.error

    def heard(self, seconds: float) -> bool:
        """Wait until all is told that the source had to tell when this was called; whether it is."""
        with self._ponged:
            self._wanted += 1
            goal = self._wanted
            self._ponged.wait_for(lambda: self._heard >= goal or self.error is not None, seconds)
            return self._heard >= goal

    def stop(self) -> None:
        """End it."""
        self._ending.set()
        if self.is_alive():
            self.join(5.0)
        self._link.close()
        self._asking.close()

    # --- the thread

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                self._ping()
                if self._link.ready(TURN_S)[0]:
                    self._in += self._link.receive()
                    self._quiet_since = time.monotonic()
                    self._read()
        except KeyferryError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - told by `check`
            self.error = SourceError(f"the source's notifications cannot be read: {error}", code="malformed")
        with self._ponged:
            self._ponged.notify_all()

    def _ping(self) -> None:
        now = time.monotonic()
        if now - self._quiet_since > SILENCE_S:
            raise ConnectionLost(f"the source has been silent for {SILENCE_S:.0f} s", side=Side.SOURCE)
        with self._ponged:
            if self._wanted == self._sent == self._heard and now - self._quiet_since > PING_EVERY_S:
                self._wanted += 1
            wanted = self._wanted
        if wanted > self._sent:
            # One stands for all that were asked for by now.
            self._link.send(encode([b"PING", b"%d" % wanted]))
            self._sent = wanted

    def _read(self) -> None:
        data, pos = self._in, 0
        while True:
            value, end = parse(data, pos)
            if end < 0:
                break
            pos = end
            self._take(value)
        self._in = data[pos:]

    def _take(self, value: object) -> None:
        if not isinstance(value, list) or not value:
            return
        if value[0] == b"pong":
            with self._ponged:
                self._heard = max(self._heard, int(value[1] or 0))
                self._ponged.notify_all()
            return
        if value[0] != b"pmessage":
            return
        _, pattern, channel, message = value
        if pattern == EVENTS:
            db, key, event = self._database(channel), message, channel.partition(b"__:")[2]
        else:
            head, _, key = channel.partition(b"__:")
            db, event = _number(head), message
        if event != MISSED and db >= 0 and not key.startswith(KEY_PREFIX) and self._takes(db, key):
            self._told.touch((db, key))

    def _database(self, channel: bytes) -> int:
        found = self._databases.get(channel)
        if found is None:
            if len(self._databases) >= MOST_CHANNELS:
                self._databases.clear()
            found = self._databases[channel] = _number(channel.partition(b"__:")[0])
        return found


def _number(head: bytes) -> int:
    """Of what stands before the second `__:` of a channel; -1: anybody may have made that up."""
    number = head.rpartition(b"@")[2]
    return int(number) if number.isdigit() and len(number) < 6 else -1
