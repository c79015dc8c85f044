"""What must hold before a task starts for the first time. Nothing is written to either server."""

from sync_tasks.precheck.notes import Note
from sync_tasks.precheck.reach import Asked
from sync_tasks.precheck.run import check

__all__ = ["Asked", "Note", "check"]
