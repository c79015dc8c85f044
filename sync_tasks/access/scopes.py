"""Which of a client's verbs a token allows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from sync_tasks.observe import traces

READ, OPERATE, ADMIN = "read", "operate", "admin"
SCOPES = (READ, OPERATE, ADMIN)
"""What each lets do: look on; also run tasks; also make and change them, instances and roles."""

F = TypeVar("F", bound=Callable[..., Any])


def needs(scope: str) -> Callable[[F], F]:
    """Mark a verb of a client: its `_may` is asked first, and raises unless the token allows so much."""

    def mark(verb: F) -> F:
        @functools.wraps(verb)
        def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
            self._may(scope)
            if scope == READ:  # some of them go on for as long as somebody looks
                return verb(self, *args, **kwargs)
            with traces.span(f"client.{verb.__name__}", account=self._account or None):
                return verb(self, *args, **kwargs)

        checked.scope = scope  # type: ignore[attr-defined]
        return cast(F, checked)

    return mark
