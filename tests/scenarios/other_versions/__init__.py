"""Targets that are older than the source, or of the other line."""
