"""Item: versions that this Keyferry knows, and what a target of another version or line has no place for."""

from __future__ import annotations

from sync_tasks.errors import Side
from sync_tasks.precheck.facts import Facts, refusal

OLDEST = {
    Side.SOURCE: {"Redis": (2, 8), "Valkey": (7, 2)},
    Side.TARGET: {"Redis": (6, 2), "Valkey": (7, 2)},
}
FIELD_TIMES = {"Redis": (7, 4), "Valkey": (9, 0)}
FUNCTIONS = {"Redis": (7, 0), "Valkey": (7, 2)}


def check(source: Facts, target: Facts) -> list[str]:
    """What the target will lack, for people. Raises SourceError or TargetError."""
    for facts in (source, target):
        first = OLDEST[facts.endpoint.side][facts.product]
        if facts.version < first:
            oldest = ".".join(map(str, first))
            raise refusal(
                facts.endpoint.side,
                f"{facts.endpoint.address()} is {facts.name}, which is not supported yet",
                f"name a server of {facts.product} {oldest} or later",
                f"{facts.endpoint.side.value}-version",
            )
    lacks = []
    if _since(source, FIELD_TIMES) and not _since(target, FIELD_TIMES):
        lacks.append("hash fields that expire come without their expiries, and go when the source removes them")
    if _since(source, FUNCTIONS) and not _since(target, FUNCTIONS):
        lacks.append("function libraries are not carried")
    where = f"{target.endpoint.address()} is {target.name}, the source {source.name}"
    return [f"{where}: {one}" for one in lacks]


def _since(facts: Facts, first: dict[str, tuple[int, int]]) -> bool:
    return facts.version >= first[facts.product]
