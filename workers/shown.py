"""A line of text beside a running Celery task, for people who watch it in Flower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def shown(task: Any) -> Callable[[str], None]:
    """What to call with the text, from any thread; it never waits.

    Args:
        task: a bound Celery task, while it runs.
    """
    post, task_id = task.app.keyferry_post, task.request.id
    return lambda text: post.say(task_id, text)
