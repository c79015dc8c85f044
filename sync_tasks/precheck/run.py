"""The first-start checks in their order: what each end says alone, then what they mean to each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from sync_tasks.answers import classify
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError
from sync_tasks.precheck import capacity, databases, permissions, topology, versions
from sync_tasks.precheck.facts import TIMEOUT_S, Facts, gather, located
from sync_tasks.precheck.notes import LACKING, WARNING, Note
from sync_tasks.precheck.reach import ask_both

if TYPE_CHECKING:
    from redis import Redis

T = TypeVar("T")


def check(
    scope: dict[int, int] | None,
    conflict_mode: str,
    source: Endpoint,
    target: Endpoint,
    pause: Callable[[float], None],
) -> list[Note]:
    """Both servers are reachable and fit for the task. Ends within twenty seconds.

    Args:
        scope: source to target database; None: all, each to its own number.
        conflict_mode: as in SPEC 3.
        pause: called while it waits; may raise to give up.

    Returns:
        What people should know all the same.

    Raises:
        KeyferryError: the first thing that is wrong.
    """
    source_facts, target_facts = ask_both(
        (source, lambda: _with(source, lambda client: _source(client, source))),
        (target, lambda: _with(target, lambda client: gather(client, target))),
        pause,
    )
    topology.check(source_facts, target_facts)
    notes = [Note(LACKING, text) for text in versions.check(source_facts, target_facts)]
    notes += [Note(WARNING, text) for text in capacity.check(source_facts, target_facts)]
    ask_both(
        (
            source,
            lambda: _with(source, lambda client: databases.check_exist(client, source_facts, set(scope or ()))),
        ),
        (
            target,
            lambda: _with(target, lambda client: _target(client, source_facts, target_facts, scope, conflict_mode)),
        ),
        pause,
        within_s=4.0,
    )
    return notes


def _source(client: Redis, endpoint: Endpoint) -> Facts:
    facts = gather(client, endpoint)
    permissions.check_source(client, endpoint)
    return facts


def _with(endpoint: Endpoint, ask: Callable[[Redis], T]) -> T:
    client = endpoint.connect(db=0, socket_timeout=TIMEOUT_S)
    try:
        return ask(client)
    except KeyferryError:
        raise
    except Exception as error:
        raise located(classify(error, endpoint.side), endpoint) from error
    finally:
        client.close()


def _target(client: Redis, source: Facts, target: Facts, scope: dict[int, int] | None, conflict_mode: str) -> None:
    permissions.check_target(client, target.endpoint)
    there = None if scope is None else set(scope.values())
    databases.check_exist(client, target, set(source.keys) if there is None else there)
    if conflict_mode == "precheck-and-report":
        databases.check_empty(client, target, there)
