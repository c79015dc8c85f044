"""What stops a stream that cannot go on by its log alone."""

from __future__ import annotations


class Wanted(Exception):
    """The target cannot be mended with less than a full sync in place; not an error. Its text says why."""
