"""How a process writes its log."""

from __future__ import annotations

from enum import StrEnum


class LogFormat(StrEnum):
    """Lines for people, or for programs."""

    CONSOLE = "console"
    JSON = "json"
