"""What rewrites a task's commands: by its script, if it has one, and for a part of the target if that is a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sync_tasks.spec import TaskSpec
from sync_tasks.transform.setting import TransformSpec
from workers.clock import Clock
from workers.rewrite import Rewriter
from workers.scope import Scope
from workers.target.knows import Knows
from workers.transform import Transformer
from workers.transform_lanes import LaneTransformer


def rewriter_of(spec: TransformSpec) -> Callable[..., Rewriter]:
    """What makes the Rewriter of a task, of the arguments of that. Raises UsageError when called."""

    def made(scope: Scope, *args: Any, **options: Any) -> Rewriter:
        return _transformer(spec, scope, *args, **options) if spec.active else Rewriter(scope, *args, **options)

    return made


def transformer(
    spec: TaskSpec, scope: Scope, home: int, knows: Knows, left_out: Callable[[int, str, bytes], None] = lambda *_: None
) -> Transformer:
    """Of a task that has a transform, for writes outside of its stream. Raises UsageError."""
    clock = Clock(0, blind=True)
    return _transformer(
        spec.transform, scope, clock, home, lambda _: [], lambda *_: None, lambda _: None, knows, left_out
    )


def _transformer(spec: TransformSpec, scope: Scope, *args: Any, **options: Any) -> Transformer:
    script = spec.script(anew=scope.lane is not None)
    assert script is not None
    kind = Transformer if scope.lane is None else LaneTransformer
    return kind(script, scope, *args, **options)
