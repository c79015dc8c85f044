"""What a target says of its clock."""

from __future__ import annotations

from workers.clock import Clock
from workers.moment import now_ms
from workers.target.link import TargetLink


def measure(link: TargetLink, clock: Clock) -> None:
    """Set `clock` by the target's."""
    before = now_ms()
    seconds, micros = link.ask(b"TIME")
    clock.observe(before, int(seconds) * 1000 + int(micros) // 1000, now_ms())
