"""A Celery consumer that takes from RabbitMQ only what one of its processes is free for.

Celery can do so of Redis alone (`worker_disable_prefetch`). What is fetched and not begun is not acknowledged: it would
wait behind a stream of days while others are idle, and after half an hour of that (`consumer_timeout`) RabbitMQ closes
the channel, by which Celery's worker would end, and its streams with it. So a worker whose processes are all at work
stops to consume, and begins again when one of them is free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.worker import state
from celery.worker.consumer import Consumer

WITHOUT = "delayed_delivery"
"""A step of Celery's that declares 28 queues for messages with a delay, of which we send none."""


class SparingConsumer(Consumer):  # type: ignore[misc]
    """Rests as long as no process is free."""

    max_prefetch_count = 1  # of each queue, until it is acknowledged: a process that is free does so at once
    _rests = False

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        """Without what nobody needs."""

        default_steps = [step for step in Consumer.Blueprint.default_steps if WITHOUT not in step]  # noqa: RUF012

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial_prefetch_count = self.max_prefetch_count

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        hub.on_tick.add(self._wake)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """What each message goes to. Made anew, as the consumer is, for each connection."""
        handle = super().create_task_handler(*args, **kwargs)
        self._rests = False

        def take(message: Any) -> None:
            if self._busy():
                # Was on its way when the last process took another: RabbitMQ gives it to whoever is free.
                self._rest()
                message.requeue()
                return
            handle(message)
            if self._busy():
                self._rest()

        return take

    def _busy(self) -> bool:
        return bool(len(state.reserved_requests) >= self.pool.num_processes)

    def _rest(self) -> None:
        if not self._rests:
            self._rests = True
            self.task_consumer.cancel()

    def _wake(self) -> None:
        """At each turn of the loop, which a process that has become free is one of.

        Without waiting for an answer, before which a message might come: it would lie until the next turn.
        """
        if self._rests and self.task_consumer is not None and not self._busy():
            self._rests = False
            for queue in self.task_consumer.queues:
                self.task_consumer._basic_consume(queue, no_ack=False, nowait=True)
