"""Chunk files made durable, then known, in a thread of its own: the source is drained while the disk works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from sync_tasks.errors import ControlError, Retry, SpoolFull, is_away
from workers.ports import StreamPort
from workers.spool.chunks import Closed
from workers.spool.files import make_durable
from workers.spool.room import when_there_is_room
from workers.spool.uploads import LOOK_S, Uploads


class Publisher:
    """Records the chunks of one snapshot, in order, each once a power cut cannot take it away any more.

    Args:
        record: called with each; again after SpoolFull, when there is room, and when the database is back.
        waiting, stopping: as `when_there_is_room` takes them.
        written: their files are there; else whoever loads them makes them.
        uploads: by which they come into an object store; None: their files stay here.
        held: nothing is recorded before the `end`.
    """

    def __init__(
        self,
        record: Callable[[Closed], None],
        waiting: Callable[[Exception], float],
        stopping: Callable[[], bool],
        written: bool = True,
        uploads: Uploads | None = None,
        held: bool = False,
    ) -> None:
        self._written, self._uploads = written, uploads
        self._record, self._waiting, self._stopping = record, waiting, stopping
        self._pool = ThreadPoolExecutor(1, "publisher")
        self.error: BaseException | None = None  # nothing more is recorded
        self._go, self._held = threading.Event(), held
        if held:
            self._pool.submit(self._go.wait)

    def put(self, chunk: Closed) -> None:
        """Take a complete chunk file. Raises what became of an earlier one."""
        self._check()
        if self._uploads is None:
            self._pool.submit(self._do, partial(self._publish, chunk))
        else:
            upload = self._uploads.begin(chunk, partial(self._enough, self._uploads))
            self._pool.submit(self._do, partial(self._publish_uploaded, self._uploads, upload))

    def end(self, last: Callable[[], None]) -> None:
        """All were put: `last` is called once all are recorded."""
        self._go.set()
        self._pool.submit(self._do, partial(self._patiently, last))

    def wait(self) -> None:
        """Until everything is done. Raises what came in between."""
        self._pool.shutdown()
        if self._uploads is not None:
            self._uploads.end()
        self._check()

    def abandon(self) -> None:
        """End the threads; what they have not begun is not recorded."""
        if self._uploads is not None:
            self._uploads.end()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._go.set()
        self._pool.shutdown()

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _do(self, step: Callable[[], None]) -> None:
        if self.error is not None:
            return
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - raised where the next chunk is put
            self.error = error

    def _enough(self, uploads: Uploads) -> bool:
        """Asked now and then while there is no room for one more. Of what is held nobody else says what keeps it."""
        if self._held and (trouble := uploads.trouble) is not None:
            self._waiting(trouble)
        return self.error is not None or self._stopping()

    def _publish(self, chunk: Closed) -> None:
        if self._written:
            _sync(Path(chunk.path))
        self._patiently(partial(self._record, chunk))

    def _publish_uploaded(self, uploads: Uploads, upload: Future[Closed]) -> None:
        """One that is on its way into the object store; of what keeps it people hear meanwhile."""
        while True:
            try:
                chunk = upload.result(LOOK_S)
                break
            except TimeoutError:
                if (trouble := uploads.trouble) is not None:
                    time.sleep(min(1.0, self._waiting(trouble)))
        self._patiently(partial(self._record, chunk))

    def _patiently(self, step: Callable[[], None]) -> None:
        """Do it, as soon as there is room and the database answers: for neither the source is asked to begin again."""
        while True:
            try:
                when_there_is_room(step, self._waiting, self._stopping)
                return
            except ControlError as error:
                if not is_away(error) or self._stopping():
                    raise
                time.sleep(min(1.0, self._waiting(error)))


def record(port: StreamPort, gen: int, c: Closed) -> None:
    """Have a chunk of a snapshot known."""
    port.add_chunk(gen=gen, seq=c.seq, db=c.db, shard=c.shard, huge=c.huge, path=c.path, keys=c.keys, size=c.size)


def _sync(path: Path) -> None:
    try:
        make_durable(path)
    except SpoolFull as error:
        # The disk has taken the bytes and lost them: to wait for room does not bring them back.
        raise ControlError(error.message, hint=error.hint, code=error.code, retry=Retry.OTHER) from error
