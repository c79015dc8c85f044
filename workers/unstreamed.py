"""A receiver of what has no stream: it is read once, and then rested upon."""

from __future__ import annotations

from workers.receive import Receiver

OFFSET = 1
"""Where the stream of such a source stands: it has none, and so never comes any further."""


class Unstreamed(Receiver):
    """Arguments as of `Receiver`."""

    def _follow(self) -> None:
        self._await_publisher()
        self._mend_log()
        if not self._goes_on(self.port.node()):
            if self.alone.is_set():
                raise self._too_late()
            self._ask_target_first(self.port.node())
            self._known.fold(self.log)
            self._bring()
        self.connected = True
        self._has_room()
        self._heal()
        self._rest()

    def _heal(self) -> None:
        """The source was reached."""
        self.port.healed("source")

    def _bring(self) -> None:
        """Read it, or have it read, as a new generation."""

    def _rest(self) -> None:
        """Until there is something to do."""
