"""What a piece of the stream begins with."""

from __future__ import annotations

from typing import Any

from workers.codec.resp_cy import parse


def leading(data: bytes) -> tuple[Any, int]:
    """The first command but newlines, by which a replica keeps its link alive, and a SELECT; and where it ends.

    An end of -1: that is not all there.
    """
    argv, end = parse(data, len(data) - len(data.lstrip(b"\n")))
    if end > 0 and argv[:1] == [b"SELECT"]:
        argv, end = parse(data, end)
    return argv, int(end)
