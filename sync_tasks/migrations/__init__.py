"""Alembic revisions. `KNOWN` stands here so that the usual start need not import Alembic."""

KNOWN = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011", "0012", "0013")
"""All revisions, oldest first; the last is the one that `models` describes."""

HEAD = KNOWN[-1]
