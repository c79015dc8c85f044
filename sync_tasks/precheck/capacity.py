"""Items: the target has room for what comes, throws nothing away, has the source's modules, and the clocks agree."""

from __future__ import annotations

from collections.abc import Iterator

from sync_tasks.precheck.facts import Facts
from sync_tasks.units import size

NEEDED = 1.1
"""Of the memory that the source uses: values may be packed otherwise on the target."""
APART_MS = 5000.0
"""A target that is so far ahead expires soon what the source still has."""


def check(source: Facts, target: Facts) -> list[str]:
    """What may go wrong, for people, each with what to do about it."""
    return [*_memory(source, target), *_eviction(target), *_modules(source, target), *_clocks(source, target)]


def _memory(source: Facts, target: Facts) -> Iterator[str]:
    needed = int(source.used_memory * NEEDED)
    room = target.maxmemory - target.used_memory
    if target.maxmemory and room < needed:
        yield (
            f"{target.endpoint.address()} has room for {size(max(0, room))}, the source uses"
            f" {size(source.used_memory)}: raise it there (CONFIG SET maxmemory {target.used_memory + needed}), or copy"
            " fewer databases"
        )


def _eviction(target: Facts) -> Iterator[str]:
    if target.maxmemory and target.policy not in ("", "noeviction"):
        yield (
            f"{target.endpoint.address()} evicts keys when its memory is full ({target.policy}), and they are missing"
            " then: CONFIG SET maxmemory-policy noeviction there, at least until the cut-over"
        )


def _modules(source: Facts, target: Facts) -> Iterator[str]:
    if missing := sorted(source.modules - target.modules):
        yield (
            f"{target.endpoint.address()} lacks modules of the source ({', '.join(missing)}): their values are refused"
            " there, their keys copied in vain; load the modules, or leave those databases out"
        )


def _clocks(source: Facts, target: Facts) -> Iterator[str]:
    apart = target.ahead_ms - source.ahead_ms
    if abs(apart) > APART_MS:
        ahead, behind = (target, source) if apart > 0 else (source, target)
        yield (
            f"the clock of {ahead.endpoint.address()} is {abs(apart) / 1000:.0f} s ahead of that of"
            f" {behind.endpoint.address()}: expiries come early or late by as much; let both follow NTP"
        )
